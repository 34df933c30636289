#include "lib/agent/guest/processes.h"

#include <dirent.h>

#include <charconv>
#include <memory>

#include "lib/agent/guest/files.h"

namespace ramet::guest {
namespace {

constexpr uint32_t kPfKthread = 0x00200000;  // linux/sched.h; not in a user header

std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

}  // namespace

bool ProcessStat::lives() const {
  return (flags & kPfKthread) == 0 && state != 'Z' && state != 'X';
}

std::optional<ProcessStat> parse_stat(std::string_view text) {
  const size_t open = text.find(" (");
  const size_t close = text.rfind(") ");
  if (open == std::string_view::npos || close == std::string_view::npos || close < open + 2) {
    return std::nullopt;
  }
  const auto pid = parse_number(text.substr(0, open));
  const std::string_view comm = text.substr(open + 2, close - open - 2);
  std::string_view rest = text.substr(close + 2);
  const std::string_view state = cut(rest, ' ');
  for (int field = 4; field < 9; ++field) {  // ppid, pgrp, session, tty_nr, tpgid
    cut(rest, ' ');
  }
  const auto flags = parse_number(cut(rest, ' '));
  if (!pid || !flags || state.size() != 1) {
    return std::nullopt;
  }
  return ProcessStat{*pid, std::string(comm.substr(0, wire::kMaxCommBytes)), state[0], *flags};
}

std::optional<std::vector<wire::LiveProcess>> live_processes(const std::string& proc,
                                                             uint32_t self) {
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(proc.c_str()));
  if (directory == nullptr) {
    return std::nullopt;
  }
  std::vector<wire::LiveProcess> live;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the agent has one thread
  while (const dirent* entry = ::readdir(directory.get())) {
    const auto pid = parse_number(entry->d_name);
    if (!pid || *pid == self) {
      continue;
    }
    const auto text = read_file(proc + "/" + entry->d_name + "/stat");
    if (!text) {
      continue;  // gone meanwhile
    }
    const auto stat = parse_stat(*text);
    if (!stat) {
      live.push_back({*pid, "(unreadable)"});
    } else if (stat->lives()) {
      live.push_back({*pid, stat->comm});
    }
  }
  return live;
}

}  // namespace ramet::guest
