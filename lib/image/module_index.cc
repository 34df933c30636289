#include "lib/image/module_index.h"

#include <algorithm>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

// depmod writes the whole closure on each line, so real chains are a few steps deep; the limit is
// for files that are none.
constexpr size_t kMaxDepth = 64;

std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return line;
}

std::string_view next_word(std::string_view& line) {
  const size_t start = std::min(line.find_first_not_of(" \t"), line.size());
  const size_t end = std::min(line.find_first_of(" \t", start), line.size());
  const std::string_view word = line.substr(start, end - start);
  line.remove_prefix(end);
  return word;
}

bool is_module_path(std::string_view path) {
  const std::string_view file = path.substr(path.rfind('/') + 1);
  const size_t extension = file.find(".ko");
  return extension != std::string_view::npos && extension > 0 &&
         path.find(' ') == std::string_view::npos;
}

bool leaves_folder(std::string_view path) {
  if (path.starts_with('/')) {
    return true;
  }
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    if (path.substr(0, slash) == "..") {
      return true;
    }
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return false;
}

}  // namespace

std::string module_name(std::string_view path) {
  std::string name(path.substr(path.rfind('/') + 1));
  name.resize(std::min(name.find(".ko"), name.size()));
  std::ranges::replace(name, '-', '_');
  return name;
}

StatusOr<ModuleIndex> ModuleIndex::parse(std::string_view depmod, std::string_view builtin) {
  if (depmod.size() > kMaxModuleIndexBytes || builtin.size() > kMaxModuleIndexBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("module index of %d and %d bytes, at most %d are read", depmod.size(),
                        builtin.size(), kMaxModuleIndexBytes));
  }
  ModuleIndex index;
  while (!depmod.empty()) {
    const std::string_view line = next_line(depmod);
    std::string_view rest = line;
    const std::string_view word = next_word(rest);
    if (word == "alias") {
      index.add_alias(rest);
    } else if (word == "softdep") {
      index.add_soft_dependencies(rest);
    } else {
      RAMET_RETURN_IF_ERROR(index.add_dependencies(line));
    }
  }
  while (!builtin.empty()) {
    const std::string_view line = next_line(builtin);
    if (is_module_path(line)) {
      index.builtin_.insert(module_name(line));
    }
  }
  return index;
}

Status ModuleIndex::add_dependencies(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_module_path(line.substr(0, colon))) {
    return Status();
  }
  const std::string path(line.substr(0, colon));
  if (leaves_folder(path)) {
    return absl::DataLossError(
        absl::StrFormat("module index: %s is outside of the module folder", path));
  }
  Module& module = modules_[module_name(path)];
  module.path = path;
  module.needs.clear();
  line.remove_prefix(colon + 1);
  for (std::string_view word = next_word(line); !word.empty(); word = next_word(line)) {
    module.needs.push_back(module_name(word));
  }
  return Status();
}

// "softdep NAME pre: A B post: C"; only what goes before matters here.
void ModuleIndex::add_soft_dependencies(std::string_view line) {
  Module& module = modules_[module_name(next_word(line))];
  bool before = false;
  for (std::string_view word = next_word(line); !word.empty(); word = next_word(line)) {
    if (word == "pre:" || word == "post:") {
      before = word == "pre:";
    } else if (before) {
      module.wishes.emplace_back(word);
    }
  }
}

// A soft dependency names a module or an alias such as crypto-crc32c; the patterns that match
// hardware are not asked for.
void ModuleIndex::add_alias(std::string_view line) {
  const std::string_view alias = next_word(line);
  const std::string_view target = next_word(line);
  if (!target.empty() && alias.find_first_of("*?[:") == std::string_view::npos) {
    aliases_.emplace(module_name(alias), module_name(target));
  }
}

bool ModuleIndex::has(std::string_view name) const {
  const std::string key = module_name(name);
  const auto entry = modules_.find(key);
  return builtin_.contains(key) || (entry != modules_.end() && !entry->second.path.empty());
}

std::vector<std::string> ModuleIndex::targets_of_wish(const std::string& wish) const {
  const std::string key = module_name(wish);
  if (has(key)) {
    return {key};
  }
  std::vector<std::string> targets;
  const auto [first, last] = aliases_.equal_range(key);
  for (auto entry = first; entry != last; ++entry) {
    targets.push_back(entry->second);
  }
  return targets;
}

struct ModuleIndex::Walk {
  std::set<std::string> seen;
  std::vector<std::string> order;
  bool too_deep = false;
};

void ModuleIndex::visit(const std::string& name, size_t depth, Walk& walk) const {
  const auto entry = modules_.find(name);
  if (entry == modules_.end() || entry->second.path.empty() || builtin_.contains(name) ||
      !walk.seen.insert(name).second) {
    return;
  }
  if (depth > kMaxDepth) {
    walk.too_deep = true;
    return;
  }
  for (const std::string& wish : entry->second.wishes) {
    for (const std::string& target : targets_of_wish(wish)) {
      visit(target, depth + 1, walk);
    }
  }
  // modules.dep lists the deepest dependency last.
  for (auto need = entry->second.needs.rbegin(); need != entry->second.needs.rend(); ++need) {
    visit(*need, depth + 1, walk);
  }
  walk.order.push_back(name);
}

Status ModuleIndex::require(const std::string& name, std::set<std::string>& required) const {
  std::vector<std::string> left = {module_name(name)};
  while (!left.empty()) {
    const std::string next = std::move(left.back());
    left.pop_back();
    if (!has(next)) {
      return absl::NotFoundError(absl::StrFormat(
          "kernel module %s%s is neither among the %d modules nor built in", next,
          next == module_name(name) ? "" : ", which " + name + " depends on,", modules_.size()));
    }
    if (!builtin_.contains(next) && required.insert(next).second) {
      const std::vector<std::string>& needs = modules_.at(next).needs;
      left.insert(left.end(), needs.begin(), needs.end());
    }
  }
  return {};
}

StatusOr<std::vector<ModuleStep>> ModuleIndex::load_order(
    std::span<const std::string> needed, std::span<const std::string> wanted) const {
  Walk walk;
  std::set<std::string> required;
  for (const std::string& name : needed) {
    RAMET_RETURN_IF_ERROR(require(name, required));
    visit(module_name(name), 0, walk);
  }
  for (const std::string& name : wanted) {
    visit(module_name(name), 0, walk);
  }
  if (walk.too_deep) {
    return absl::DataLossError(
        absl::StrFormat("module index: dependencies are nested more than %d deep", kMaxDepth));
  }
  std::vector<ModuleStep> steps;
  for (const std::string& name : walk.order) {
    steps.push_back({modules_.at(name).path, !required.contains(name)});
  }
  return steps;
}

}  // namespace ramet
