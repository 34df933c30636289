#include "vmm/jail/cgroup.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "vmm/base/syscall.h"

namespace ramet::jail {
namespace {

constexpr absl::string_view kPrefix = "ramet-";
constexpr int kTries = 3;
constexpr size_t kMaxText = 4096;
// cpu.max: the kernel's own period, and its least quota.
constexpr uint64_t kPeriodUs = 100'000;
constexpr uint64_t kMinQuotaUs = 1'000;
constexpr uint64_t kSecondNs = 1'000'000'000;

absl::string_view view(std::string_view text) { return {text.data(), text.size()}; }

StatusOr<std::string> read_text(int fd, const std::string& what) {
  std::string text(kMaxText, '\0');
  iovec room = {text.data(), text.size()};
  const sys::Result got = sys::preadv(fd, {&room, 1}, 0);
  RAMET_RETURN_IF_ERROR(got.status("read " + what));
  text.resize(static_cast<size_t>(got.value));
  return text;
}

StatusOr<std::string> read_file(const std::string& path) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, sys::open(path, O_RDONLY));
  return read_text(file.get(), path);
}

Status write_at(int directory, const std::string& name, const std::string& value,
                const std::string& what) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, sys::open_at(directory, name, O_WRONLY));
  return sys::write_all(file.get(), std::as_bytes(std::span(value)),
                        absl::StrCat("write \"", value, "\" to ", what, "/", name));
}

bool lock(int fd, int how) {
  return sys::invoke(sys::Call::kFcntl, sys::OnEintr::kRetry,
                     [&] { return ::flock(fd, how | LOCK_NB); })
      .ok();
}

// io.max takes whole disks: of a partition, the disk that it is on. Nothing for what is no block
// device, like memory or the volumes of some file systems.
std::optional<std::string> disk_of(dev_t device) {
  const std::string place =
      absl::StrFormat("/sys/dev/block/%d:%d/", ::major(device), ::minor(device));
  const bool partition = read_file(place + "partition").ok();
  const auto number = read_file(place + (partition ? "../dev" : "dev"));
  if (!number.ok()) {
    return std::nullopt;
  }
  return std::string(absl::StripAsciiWhitespace(*number));
}

std::string fresh_name() {
  std::array<std::byte, sizeof(uint64_t)> bytes = {};
  sys::getrandom(bytes).IgnoreError();  // a name that is taken is tried again
  uint64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return absl::StrFormat("%s%016x", kPrefix, number);
}

}  // namespace

std::string_view name_of(Controller controller) {
  constexpr std::array<std::string_view, kControllers.size()> kNames = {"cpu", "memory", "pids",
                                                                        "io"};
  return kNames[static_cast<size_t>(controller)];
}

std::string ControllersGiven::missing() const {
  std::string text;
  for (const Controller controller : kControllers) {
    if (!has(controller)) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", view(name_of(controller)), " (",
                      at(controller), ")");
    }
  }
  return text;
}

StatusOr<std::unique_ptr<Cgroups>> Cgroups::open(const std::string& path) {
  std::unique_ptr<Cgroups> groups(new Cgroups(path));
  auto directory = sys::open(path, O_RDONLY | O_DIRECTORY);
  RAMET_RETURN_IF_ERROR(annotate(directory.status(), "open the directory of control groups"));
  groups->directory_ = *std::move(directory);
  RAMET_RETURN_IF_ERROR(groups->enable_controllers());
  groups->remove_abandoned();
  return groups;
}

Status Cgroups::enable_controllers() {
  const auto offered = read_file(path_ + "/cgroup.controllers");
  if (!offered.ok()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s is no control group of version 2 (%s): name a directory below the place where cgroup2 "
        "is mounted, often /sys/fs/cgroup",
        path_, offered.status().message()));
  }
  const std::set<std::string> names =
      absl::StrSplit(*offered, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  std::string wanted;
  for (const Controller controller : kControllers) {
    const std::string name(name_of(controller));
    if (names.contains(name)) {
      absl::StrAppend(&wanted, wanted.empty() ? "+" : " +", name);
    } else {
      given_.at(controller) = "it is not in cgroup.controllers";
    }
  }
  // All at once: some alone can be had where processes live, and turn the directory into one whose
  // children take none.
  const Status enabled = write_at(directory_.get(), "cgroup.subtree_control", wanted, path_);
  for (const Controller controller : kControllers) {
    if (!enabled.ok() && given_.has(controller)) {
      given_.at(controller) = std::string(enabled.message());
    }
  }
  return Status();
}

void Cgroups::remove_abandoned() {
  // What cannot be listed or removed stays: it is nobody's, and costs a directory.
  std::error_code error;
  for (std::filesystem::directory_iterator next(path_, error), end; !error && next != end;
       next.increment(error)) {
    const std::string name = next->path().filename().string();
    if (!absl::StartsWith(name, kPrefix)) {
      continue;
    }
    const auto group = sys::open_at(directory_.get(), name, O_RDONLY | O_DIRECTORY);
    if (group.ok() && lock(group->get(), LOCK_EX)) {
      sys::rmdir(next->path().string()).IgnoreError();
    }
  }
}

Cgroups::~Cgroups() { sweep(); }

StatusOr<std::unique_ptr<Cgroup>> Cgroups::make(uint64_t threads) {
  Status last;
  // Again where another process took the new directory for an abandoned one.
  for (int i = 0; i < kTries; ++i) {
    std::unique_ptr<Cgroup> group(new Cgroup(this, fresh_name()));
    last = sys::mkdir(absl::StrCat(path_, "/", group->name_), 0755);
    last = last.ok() ? group->open_files() : last;
    if (last.ok() && given_.has(Controller::kMemory)) {
      last = group->set("memory.oom.group", "1");
    }
    if (last.ok() && given_.has(Controller::kPids)) {
      last = group->set("pids.max", absl::StrCat(threads));
    }
    if (last.ok()) {
      return group;
    }
  }
  return annotate(last, absl::StrCat("make a control group in ", path_));
}

void Cgroups::on_ended(std::function<void()> function) {
  const std::lock_guard lock(mutex_);
  on_ended_ = std::move(function);
}

void Cgroups::ended(std::string name) {
  const std::lock_guard lock(mutex_);
  ended_.push_back(std::move(name));
  if (on_ended_) {
    on_ended_();
  }
}

void Cgroups::sweep() {
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    names.swap(ended_);
  }
  std::erase_if(names, [&](const std::string& name) {
    const Status removed = sys::rmdir(absl::StrCat(path_, "/", name));
    return removed.ok() || absl::IsNotFound(removed);
  });
  const std::lock_guard lock(mutex_);
  ended_.insert(ended_.end(), names.begin(), names.end());
}

Cgroup::~Cgroup() { parent_.ended(name_); }

Status Cgroup::open_files() {
  RAMET_ASSIGN_OR_RETURN(directory_,
                         sys::open_at(parent_.directory_.get(), name_, O_RDONLY | O_DIRECTORY));
  if (!lock(directory_.get(), LOCK_SH)) {
    return absl::UnavailableError(absl::StrCat("somebody has locked ", name_));
  }
  RAMET_ASSIGN_OR_RETURN(procs_, sys::open_at(directory_.get(), "cgroup.procs", O_WRONLY));
  if (parent_.given_.has(Controller::kMemory)) {
    RAMET_ASSIGN_OR_RETURN(memory_events_,
                           sys::open_at(directory_.get(), "memory.events", O_RDONLY));
  }
  return Status();
}

Status Cgroup::set(const char* file, const std::string& value) const {
  return write_at(directory_.get(), file, value, absl::StrCat(parent_.path_, "/", name_));
}

Status Cgroup::limit(const CgroupLimits& limits) {
  const ControllersGiven& given = parent_.given_;
  if (limits.memory_bytes != 0 && given.has(Controller::kMemory)) {
    RAMET_RETURN_IF_ERROR(set("memory.max", absl::StrCat(limits.memory_bytes)));
    // Else what is too much goes there. A kernel without swap has no such file.
    const Status swap = set("memory.swap.max", "0");
    RAMET_RETURN_IF_ERROR(absl::IsNotFound(swap) ? Status() : swap);
  }
  if (limits.cpu_ns_per_second != 0 && given.has(Controller::kCpu)) {
    const uint64_t quota = limits.cpu_ns_per_second / (kSecondNs / kPeriodUs);
    RAMET_RETURN_IF_ERROR(
        set("cpu.max", absl::StrFormat("%d %d", std::max(quota, kMinQuotaUs), kPeriodUs)));
  }
  if (limits.io_bytes_per_second == 0 || !given.has(Controller::kIo)) {
    return Status();
  }
  std::set<std::string> disks;
  for (const dev_t device : limits.io_devices) {
    if (const auto disk = disk_of(device)) {
      disks.insert(*disk);
    }
  }
  for (const std::string& disk : disks) {
    RAMET_RETURN_IF_ERROR(
        set("io.max", absl::StrFormat("%s rbps=%d wbps=%d", disk, limits.io_bytes_per_second,
                                      limits.io_bytes_per_second)));
  }
  return Status();
}

StatusOr<uint64_t> Cgroup::oom_kills() const {
  if (!memory_events_.valid()) {
    return uint64_t{0};
  }
  RAMET_ASSIGN_OR_RETURN(const std::string text, read_text(memory_events_.get(), "memory.events"));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    uint64_t count = 0;
    if (words.size() == 2 && words[0] == "oom_kill" && absl::SimpleAtoi(words[1], &count)) {
      return count;
    }
  }
  return uint64_t{0};
}

}  // namespace ramet::jail
