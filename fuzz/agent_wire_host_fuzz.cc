// The host's side of the agent's wire: a guest sends these bytes, in pieces, to a client that
// handshakes, pings, or runs a command. Whatever comes, the client answers, captures no more than
// its limit, and what it decodes encodes to the same bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "lib/agent/client.h"
#include "lib/agent/wire.h"

namespace {

constexpr size_t kCaptureBytes = 64;

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// Gives the script in pieces of `piece` bytes, then the end; takes whatever is written.
class ScriptedStream final : public ramet::ByteStream {
 public:
  ScriptedStream(std::span<const std::byte> script, size_t piece) : rest_(script), piece_(piece) {}
  ramet::StatusOr<ramet::IoResult> try_read(std::span<std::byte> into) override {
    if (rest_.empty()) {
      return ramet::IoResult::end();
    }
    const size_t size = std::min({into.size(), rest_.size(), piece_});
    std::ranges::copy(rest_.first(size), into.begin());
    rest_ = rest_.subspan(size);
    return ramet::IoResult::moved(size);
  }
  ramet::StatusOr<ramet::IoResult> try_write(std::span<const std::byte> from) override {
    require(!from.empty());
    return ramet::IoResult::moved(from.size());
  }
  ramet::StatusOr<ramet::Readiness> wait(bool, uint64_t) override {
    return ramet::Readiness{true, true};
  }
  void wake() override {}
  ramet::Status shutdown_write() override { return ramet::Status(); }

 private:
  std::span<const std::byte> rest_;
  const size_t piece_;
};

// Cuts and decodes on its own: a message that decodes is exactly the bytes it encodes to.
void check_codec(std::span<const std::byte> bytes) {
  ramet::wire::FrameReader reader;
  while (!bytes.empty()) {
    const auto before = bytes;
    bytes = bytes.subspan(reader.feed(bytes));
    if (!reader.complete()) {
      require(bytes.empty() || reader.error().has_value());
      return;
    }
    require(reader.payload().size() <= ramet::wire::kMaxPayloadBytes);
    const auto message = reader.message();
    if (message.ok()) {
      const auto frame = ramet::wire::encode(message.value());
      require(frame.ok());
      require(std::ranges::equal(frame.value(), before.first(before.size() - bytes.size())));
    } else {
      require(!message.error().empty());
    }
    reader.next();
  }
}

void run_exec(ramet::AgentClient& client, bool with_input) {
  static constexpr std::array<std::byte, 70'000> kInput = {};  // beyond the stdin window
  ramet::SpanSource source(kInput);
  ramet::ExecSpec spec;
  spec.argv = {"x"};
  spec.capture_bytes = kCaptureBytes;
  spec.stdin_source = with_input ? &source : nullptr;
  const auto outcome = client.exec(spec);
  if (!outcome.ok()) {
    require(!outcome.status().message().empty());
    return;
  }
  require(outcome->stdout_data.size() <= kCaptureBytes);
  require(outcome->stderr_data.size() <= kCaptureBytes);
  require(outcome->exit_code >= 0 && outcome->exit_code <= 255);
  require(outcome->signal >= 0 && outcome->signal <= ramet::wire::kMaxSignal);
}

}  // namespace

// The first byte chooses the call and the size of the pieces; the rest is what the guest sends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const auto script = std::as_bytes(std::span(data + 1, size - 1));
  check_codec(script);
  const size_t piece = (data[0] & 0x10) != 0 ? 1 + (data[0] >> 5) : 65536;
  ramet::AgentClient client(std::make_unique<ScriptedStream>(script, piece));
  switch (data[0] & 7) {
    case 0:
      (void)client.handshake(0);
      break;
    case 1:
      (void)client.ping(0);
      break;
    case 2: {
      // The reseed that the seed corpus acknowledges.
      ramet::wire::Reseed reseed;
      reseed.generation[15] = std::byte{1};
      (void)client.reseed(reseed, 0);
      break;
    }
    case 3: {
      const auto reply = client.freeze(0);
      require(!reply.ok() || reply->processes.size() <= ramet::wire::kMaxListedProcesses);
      break;
    }
    case 6: {
      const auto reply = client.suspend(0);
      require(!reply.ok() || reply->processes.size() <= ramet::wire::kMaxListedProcesses);
      (void)client.thaw(0);
      break;
    }
    case 4:
      run_exec(client, true);
      break;
    default:
      run_exec(client, false);
      break;
  }
  return 0;
}
