#include "bench/report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace ramet::bench {

int report(const Report& report, const StatusOr<std::vector<Row>>& rows) {
  if (!rows.ok()) {
    std::fprintf(stderr, "%s: %s\n", report.program.c_str(), rows.status().ToString().c_str());
    return 1;
  }
  std::fputs(format_table(report.title, *rows, report.sides).c_str(), stdout);
  if (!report.json.empty()) {
    std::ofstream file(report.json);
    file << format_json(report.name, *rows);
    if (!file.flush()) {
      std::fprintf(stderr, "%s: cannot write %s\n", report.program.c_str(), report.json.c_str());
      return 1;
    }
  }
  return std::ranges::any_of(*rows, [](const Row& row) { return row.misses_bar(); }) ? 1 : 0;
}

}  // namespace ramet::bench
