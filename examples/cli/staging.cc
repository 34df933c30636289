#include "examples/cli/staging.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <absl/strings/str_format.h>

namespace cli {
namespace {

namespace fs = std::filesystem;

// Names with a leading dot are no template names, so `ls` never shows them.
constexpr const char* kBuilding = ".building-";
constexpr const char* kRemoving = ".removing-";
// Another thread may add a file while we remove: then again, this often.
constexpr int kRemoveAttempts = 100;
constexpr std::chrono::milliseconds kRemovePause{10};

absl::Status errno_error(const std::string& what, int error) {
  return absl::ErrnoToStatus(error, what);
}

absl::Status taken(const fs::path& target) {
  return absl::AlreadyExistsError(absl::StrFormat("%s exists already", target.string()));
}

// Opens a directory and takes its lock; -1 with errno set when either fails.
int lock_directory(const fs::path& directory, int operation) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 && ::flock(fd, operation) != 0) {
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

void remove_tree(const fs::path& path) {
  for (int i = 0; i < kRemoveAttempts; ++i) {
    std::error_code error;
    fs::remove_all(path, error);
    if (!error) {
      return;
    }
    std::this_thread::sleep_for(kRemovePause);
  }
}

// Removes what processes left that no longer live: their lock is free. The caller holds the lock of
// `parent`, so none is between making its directory and locking it.
void sweep(const fs::path& parent) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kBuilding, 0) != 0 && name.rfind(kRemoving, 0) != 0) {
      continue;
    }
    if (const int fd = lock_directory(entry.path(), LOCK_EX | LOCK_NB); fd >= 0) {
      remove_tree(entry.path());
      ::close(fd);
    }
  }
}

}  // namespace

Staging::Staging(fs::path work, fs::path target, int lock_fd)
    : work_(std::move(work)), target_(std::move(target)), lock_fd_(lock_fd) {}

absl::StatusOr<std::unique_ptr<Staging>> Staging::create(const fs::path& target) {
  std::error_code error;
  const fs::path parent = target.parent_path();
  fs::create_directories(parent, error);
  if (error) {
    return errno_error("create directory " + parent.string(), error.value());
  }
  if (fs::symlink_status(target, error).type() != fs::file_type::not_found) {
    return taken(target);
  }
  const int parent_lock = lock_directory(parent, LOCK_EX);
  if (parent_lock < 0) {
    return errno_error("lock directory " + parent.string(), errno);
  }
  sweep(parent);
  std::string work = parent / (kBuilding + target.filename().string() + "-XXXXXX");
  absl::Status status;
  int lock = -1;
  if (::mkdtemp(work.data()) == nullptr) {
    status = errno_error("create a directory in " + parent.string(), errno);
  } else if (lock = lock_directory(work, LOCK_EX | LOCK_NB); lock < 0) {
    status = errno_error("lock directory " + work, errno);
    ::rmdir(work.c_str());
  }
  ::close(parent_lock);
  if (!status.ok()) {
    return status;
  }
  return std::unique_ptr<Staging>(new Staging(work, target, lock));
}

Staging::~Staging() {
  discard();
  ::close(lock_fd_);
}

absl::Status Staging::commit() {
  // Not over an empty directory either, which a plain rename would replace.
  if (::renameat2(AT_FDCWD, path().c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) != 0) {
    // Some file systems (9p) know no flags.
    if (errno != EINVAL && errno != ENOSYS) {
      return errno == EEXIST ? taken(target_) : errno_error("rename to " + target_.string(), errno);
    }
    if (::rename(path().c_str(), target_.c_str()) != 0) {
      return errno == EEXIST || errno == ENOTEMPTY
                 ? taken(target_)
                 : errno_error("rename to " + target_.string(), errno);
    }
  }
  const int parent = ::open(target_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent >= 0) {
    ::fsync(parent);
    ::close(parent);
  }
  discard();
  return absl::OkStatus();
}

void Staging::discard() { remove_tree(work_); }

absl::Status remove_directory(const fs::path& directory) {
  const fs::path parent = directory.parent_path();
  std::string away = parent / (kRemoving + directory.filename().string() + "-XXXXXX");
  const int parent_lock = lock_directory(parent, LOCK_EX);
  if (parent_lock < 0) {
    return errno_error("lock directory " + parent.string(), errno);
  }
  absl::Status status;
  if (::mkdtemp(away.data()) == nullptr) {
    status = errno_error("create a directory in " + parent.string(), errno);
  } else if (::rename(directory.c_str(), (fs::path(away) / "template").c_str()) != 0) {
    status = errno_error("remove " + directory.string(), errno);
    ::rmdir(away.c_str());
  }
  ::close(parent_lock);
  if (!status.ok()) {
    return status;
  }
  remove_tree(away);
  std::error_code error;
  if (fs::exists(away, error)) {
    return absl::InternalError(absl::StrFormat("cannot remove all of %s", away));
  }
  return absl::OkStatus();
}

}  // namespace cli
