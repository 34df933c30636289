// One or more messages of every type, for round trips and as seeds of the fuzz corpora.
#ifndef RAMET_TESTS_UNIT_LIB_AGENT_SAMPLES_H_
#define RAMET_TESTS_UNIT_LIB_AGENT_SAMPLES_H_

#include <vector>

#include "lib/agent/wire.h"

namespace ramet::test {

inline std::vector<wire::Message> sample_messages() {
  using namespace wire;  // NOLINT: all of it is used below
  const std::vector<std::byte> data = {std::byte{0}, std::byte{255}, std::byte{10}};
  Reseed reseed;
  reseed.entropy.fill(std::byte{0x5a});
  reseed.generation[15] = std::byte{1};
  reseed.realtime_ns = 1'800'000'000'123'456'789;
  reseed.hostname = "fork-17";
  reseed.machine_id = "0123456789abcdef0123456789abcdef";
  return {
      Hello{},
      Hello{7, "6.12.9+bpo-cloud-amd64", "ramet-agent 0.1.0"},
      ExecRequest{{"true"}, {}, "", {}, false, 0},
      ExecRequest{{"sh", "-c", "", "x y"},
                  {"PATH=/bin", "EMPTY="},
                  "/tmp",
                  {User::Kind::kIds, 1000, 100, ""},
                  true,
                  2500},
      ExecRequest{{"id"}, {}, "/", {User::Kind::kName, 0, 0, "daemon"}, false, 1},
      Stdin{data},
      StdinEof{},
      StdinCredit{4096, false},
      StdinCredit{0, true},
      Stdout{data},
      Stderr{data},
      Exit{Exit::Kind::kExited, 255, false, ""},
      Exit{Exit::Kind::kSignalled, 9, true, ""},
      Exit{Exit::Kind::kFailedToStart, 2, false, "enter the working directory"},
      Signal{15},
      reseed,
      ReseedAck{reseed.generation},
      Freeze{},
      FreezeReply{},
      FreezeReply{2, {{17, "cron"}, {4'000'000'000U, "a) b ("}}},
      Ping{42},
      Pong{UINT64_MAX},
      Poweroff{},
      Error{ErrorCode::kNotReseeded, "frozen"},
      Suspend{},
      Thaw{},
      Thawed{},
  };
}

}  // namespace ramet::test

#endif  // RAMET_TESTS_UNIT_LIB_AGENT_SAMPLES_H_
