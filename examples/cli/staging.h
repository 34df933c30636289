// Staging: a template under construction, beside where it will be, until one rename puts it there.
//
// Thread rule: discard() from any thread (a signal's, that is), the rest on one.
// Invariant: the target is never touched but by the rename of something whole. A staging directory
// is locked while its process lives; what a killed process left is removed by the next one.
#ifndef RAMET_EXAMPLES_CLI_STAGING_H_
#define RAMET_EXAMPLES_CLI_STAGING_H_

#include <filesystem>
#include <memory>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace cli {

class Staging {
 public:
  // Makes target's parent where it is missing. AlreadyExists when `target` exists.
  static absl::StatusOr<std::unique_ptr<Staging>> create(const std::filesystem::path& target);
  // discard().
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Where to write: does not exist yet, and lies on target's file system.
  std::filesystem::path path() const { return work_ / "template"; }
  // Moves path() to the target. AlreadyExists when somebody else made one in the meantime.
  absl::Status commit();
  // Removes everything but a committed target, even while another thread still writes there.
  void discard();

 private:
  Staging(std::filesystem::path work, std::filesystem::path target, int lock_fd);

  const std::filesystem::path work_;
  const std::filesystem::path target_;
  const int lock_fd_;  // holds the lock on work_
};

// Removes `directory` so that it is gone at once, by a rename, even where removing takes time.
absl::Status remove_directory(const std::filesystem::path& directory);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_STAGING_H_
