#include "lib/core/pressure.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <array>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint32_t kHundredths = 100;
constexpr uint32_t kWholePercent = 100;
constexpr uint64_t kMinRetryMs = 1'000;
constexpr uint64_t kMaxRetryMs = 30'000;

absl::string_view view(std::string_view text) { return {text.data(), text.size()}; }

// "12.34" in hundredths.
std::optional<uint32_t> hundredths(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  uint32_t whole = 0;
  uint32_t part = 0;
  if (parts.size() != 2 || parts[1].size() != 2 || !absl::SimpleAtoi(parts[0], &whole) ||
      !absl::SimpleAtoi(parts[1], &part) || whole > kWholePercent) {
    return std::nullopt;
  }
  return whole * kHundredths + part;
}

// avg10 of the line that begins with `kind`.
std::optional<uint32_t> average(absl::string_view psi, absl::string_view kind) {
  for (const absl::string_view line : absl::StrSplit(psi, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    constexpr absl::string_view kName = "avg10=";
    if (words.size() >= 2 && words[0] == kind && words[1].substr(0, kName.size()) == kName) {
      return hundredths(words[1].substr(kName.size()));
    }
  }
  return std::nullopt;
}

uint64_t kilobytes(absl::string_view meminfo, absl::string_view name) {
  for (const absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    uint64_t number = 0;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &number)) {
      return number * 1024;
    }
  }
  return 0;
}

// avg10 falls by a tenth each second once nobody waits any more.
uint64_t time_to_fall_ms(uint64_t from, uint64_t to) {
  uint64_t ms = 0;
  for (; from > to && ms < kMaxRetryMs; ms += 1'000) {
    from = from * 9 / 10;
  }
  return std::max(ms, kMinRetryMs);
}

std::optional<Shortage> stalls(const char* who, std::optional<uint32_t> found, uint32_t percent) {
  if (percent == 0 || !found || *found <= percent * kHundredths) {
    return std::nullopt;
  }
  return Shortage{absl::StrFormat("%s waited for memory in %d.%02d %% of the last 10 s, at most "
                                  "%d %% are allowed for another fork",
                                  who, *found / kHundredths, *found % kHundredths, percent),
                  time_to_fall_ms(*found, uint64_t{percent} * kHundredths)};
}

}  // namespace

PressureFigures parse_pressure(std::string_view psi, std::string_view meminfo) {
  return {.some = average(view(psi), "some"),
          .full = average(view(psi), "full"),
          .available_bytes = kilobytes(view(meminfo), "MemAvailable:"),
          .total_bytes = kilobytes(view(meminfo), "MemTotal:")};
}

std::string HostPressure::read_file(const char* path, UniqueFd* fd, bool* tried) {
  if (!*tried) {
    *tried = true;
    if (auto opened = sys::open(path, O_RDONLY); opened.ok()) {
      *fd = *std::move(opened);
    }
  }
  if (!fd->valid()) {
    return "";
  }
  std::array<char, 8192> buffer;
  const iovec part = {buffer.data(), buffer.size()};
  const sys::Result got = sys::preadv(fd->get(), std::span(&part, 1), 0);
  return got.ok() ? std::string(buffer.data(), static_cast<size_t>(got.value)) : "";
}

PressureFigures HostPressure::read() {
  return parse_pressure(read_file("/proc/pressure/memory", &psi_, &tried_psi_),
                        read_file("/proc/meminfo", &meminfo_, &tried_meminfo_));
}

std::optional<Shortage> shortage_of(const PressureFigures& figures, const PressureLimits& limits) {
  const uint64_t wanted = figures.total_bytes / kWholePercent * limits.min_available_percent;
  if (figures.available_bytes < wanted) {
    return Shortage{absl::StrFormat("%d MiB of memory are available, %d MiB (%d %%) are wanted for "
                                    "another fork",
                                    figures.available_bytes / kMiB, wanted / kMiB,
                                    limits.min_available_percent),
                    kMinRetryMs};
  }
  if (auto all = stalls("all tasks", figures.full, limits.max_full_percent)) {
    return all;
  }
  return stalls("some task", figures.some, limits.max_some_percent);
}

}  // namespace ramet
