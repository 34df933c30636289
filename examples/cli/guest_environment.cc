#include "examples/cli/guest_environment.h"

#include <algorithm>
#include <utility>

namespace cli {
namespace {

std::string name_of(const std::string& variable) { return variable.substr(0, variable.find('=')); }

void set(std::vector<std::string>& environment, std::string variable) {
  const std::string name = name_of(variable);
  const auto at = std::find_if(environment.begin(), environment.end(),
                               [&](const std::string& other) { return name_of(other) == name; });
  if (at == environment.end()) {
    environment.push_back(std::move(variable));
  } else {
    *at = std::move(variable);
  }
}

}  // namespace

std::vector<std::string> guest_environment(std::vector<std::string> base,
                                           const std::vector<std::string>& given,
                                           const Environment& host) {
  std::vector<std::string> out = std::move(base);
  for (const std::string& variable : given) {
    if (variable.find('=') != std::string::npos) {
      set(out, variable);
    } else if (const auto value = host(variable)) {
      set(out, variable + "=" + *value);
    }
  }
  return out;
}

}  // namespace cli
