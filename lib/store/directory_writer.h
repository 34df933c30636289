// DirectoryWriter: a directory that appears whole or not at all.
//
// Thread rule: one thread.
// Invariant: what is written goes to a hidden temporary directory beside the wanted one; without
// commit() it is removed again, whatever happened in between.
#ifndef RAMET_LIB_STORE_DIRECTORY_WRITER_H_
#define RAMET_LIB_STORE_DIRECTORY_WRITER_H_

#include <memory>
#include <string>

#include "vmm/base/status.h"

namespace ramet {

class DirectoryWriter {
 public:
  // AlreadyExists when `path` is there.
  static StatusOr<std::unique_ptr<DirectoryWriter>> create(const std::string& path);
  ~DirectoryWriter();
  DirectoryWriter(const DirectoryWriter&) = delete;
  DirectoryWriter& operator=(const DirectoryWriter&) = delete;

  const std::string& temporary() const { return temporary_; }
  // Syncs the directory and gives it its name; the files in it are synced already.
  Status commit();

 private:
  DirectoryWriter(std::string path, std::string parent, std::string temporary)
      : path_(std::move(path)), parent_(std::move(parent)), temporary_(std::move(temporary)) {}

  const std::string path_;
  const std::string parent_;
  const std::string temporary_;
  bool committed_ = false;
};

}  // namespace ramet

#endif  // RAMET_LIB_STORE_DIRECTORY_WRITER_H_
