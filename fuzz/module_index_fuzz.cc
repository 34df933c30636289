// ModuleIndex: an order it gives holds each module once, dependencies before their users as far as
// there is no circle, and only paths inside the module folder.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/image/module_index.h"

namespace {

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

}  // namespace

// The text up to the first NUL is depmod's, the text up to the second the built-in list; what
// follows are the names asked for, one a line: needed, or wanted with '?' in front.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string input(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    input[i] = static_cast<char>(data[i]);
  }
  std::string_view rest = input;
  const auto part = [&rest](char separator) {
    const size_t end = std::min(rest.find(separator), rest.size());
    const std::string_view taken = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return taken;
  };
  const std::string_view depmod = part('\0');
  const std::string_view builtin = part('\0');
  const auto index = ramet::ModuleIndex::parse(depmod, builtin);
  if (!index.ok()) {
    require(!index.status().message().empty());
    return 0;
  }
  std::vector<std::string> names;
  std::vector<std::string> wanted;
  while (!rest.empty()) {
    const std::string_view name = part('\n');
    if (name.starts_with('?')) {
      wanted.emplace_back(name.substr(1));
    } else {
      names.emplace_back(name);
    }
  }
  const auto order = index->load_order(names, wanted);
  if (!order.ok()) {
    require(!order.status().message().empty());
    return 0;
  }
  require(order->size() <= index->size());
  std::set<std::string> seen;
  for (const ramet::ModuleStep& step : *order) {
    require(!step.path.empty() && step.path[0] != '/');
    require(("/" + step.path).find("/../") == std::string::npos);
    const std::string name = ramet::module_name(step.path);
    require(index->has(name));
    require(seen.insert(name).second);
  }
  if (names.empty()) {
    require(std::ranges::all_of(*order, [](const auto& step) { return step.may_fail; }));
  }
  for (const std::string& name : names) {
    require(index->has(name));
  }
  return 0;
}
