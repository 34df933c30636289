// ModuleIndex: which kernel modules there are, what each needs, and so in which order to load some.
// Read from the text that depmod makes (modules.dep(5), modules.softdep, modules.alias) and the
// kernel's own modules.builtin. The text is read, not libkmod asked, because libkmod mixes in the
// host's modprobe.d and wants binary index files, which the distribution's packages lack.
//
// Thread rule: a value; const calls from anywhere.
// Invariant: every path is relative and without ".."; '-' and '_' in names are the same.
#ifndef RAMET_LIB_IMAGE_MODULE_INDEX_H_
#define RAMET_LIB_IMAGE_MODULE_INDEX_H_

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

inline constexpr size_t kMaxModuleIndexBytes = size_t{64} * 1024 * 1024;

// The name that the kernel uses: "kernel/fs/foo-bar.ko.xz" is "foo_bar".
std::string module_name(std::string_view path);

struct ModuleStep {
  std::string path;       // relative to the module folder
  bool may_fail = false;  // nothing needed depends on it
  bool operator==(const ModuleStep&) const = default;
};

class ModuleIndex {
 public:
  // `depmod` holds lines of modules.dep, modules.softdep and modules.alias in any order, as
  // "depmod -n" prints them; lines of other kinds are skipped. `builtin` is modules.builtin.
  // DataLoss for a module path that leaves the folder.
  static StatusOr<ModuleIndex> parse(std::string_view depmod, std::string_view builtin);

  // What to load, in order, so that the kernel has all of `needed`, and of `wanted` what there is:
  // dependencies first, soft ones where they exist, nothing that is built in. NotFound for a needed
  // module, or one that a needed one depends on, that is neither a module nor built in.
  StatusOr<std::vector<ModuleStep>> load_order(std::span<const std::string> needed,
                                               std::span<const std::string> wanted = {}) const;

  // As a module or built in.
  bool has(std::string_view name) const;
  size_t size() const { return modules_.size(); }

 private:
  struct Module {
    std::string path;
    std::vector<std::string> needs;   // names
    std::vector<std::string> wishes;  // names or aliases, to be loaded before
  };
  struct Walk;

  Status add_dependencies(std::string_view line);
  void add_soft_dependencies(std::string_view line);
  void add_alias(std::string_view line);
  std::vector<std::string> targets_of_wish(const std::string& wish) const;
  void visit(const std::string& name, size_t depth, Walk& walk) const;
  Status require(const std::string& name, std::set<std::string>& required) const;

  std::map<std::string, Module> modules_;
  std::multimap<std::string, std::string> aliases_;  // without patterns
  std::set<std::string> builtin_;
};

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_MODULE_INDEX_H_
