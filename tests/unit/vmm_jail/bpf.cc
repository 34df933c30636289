#include "tests/unit/vmm_jail/bpf.h"

#include <pcap/bpf.h>

#include <vector>

namespace ramet::testing {

static_assert(sizeof(bpf_insn) == sizeof(jail::BpfInstruction));

// libpcap runs the same language over packets, whose words are big-endian; the kernel loads words
// of struct seccomp_data as they are in memory. So each word goes in with its bytes turned round.
uint32_t evaluate(const jail::Filter& filter, const Call& call) {
  std::vector<uint32_t> words = {static_cast<uint32_t>(call.number), call.architecture, 0, 0};
  for (const uint64_t argument : call.arguments) {
    words.push_back(static_cast<uint32_t>(argument));
    words.push_back(static_cast<uint32_t>(argument >> 32));
  }
  std::vector<u_char> packet;
  for (const uint32_t word : words) {
    for (const int shift : {24, 16, 8, 0}) {
      packet.push_back(static_cast<u_char>(word >> shift));
    }
  }
  std::vector<bpf_insn> program;
  for (const jail::BpfInstruction& one : filter.program()) {
    program.push_back({one.code, one.jump_true, one.jump_false, one.k});
  }
  const auto bytes = static_cast<u_int>(packet.size());
  return bpf_filter(program.data(), packet.data(), bytes, bytes);
}

}  // namespace ramet::testing
