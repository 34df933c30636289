// What every bench does with its rows in the end.
//
// Thread rule: one thread.
#ifndef RAMET_BENCH_REPORT_H_
#define RAMET_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "bench/samples.h"
#include "vmm/base/status.h"

namespace ramet::bench {

struct Report {
  std::string program;  // for messages
  std::string name;     // of the bench, in its JSON
  std::string title;    // of its table
  std::string json;     // where every sample goes; empty: nowhere
  Sides sides = {};
};

// Prints and writes them. The exit code: 1 where a bar was missed or `rows` is an error.
int report(const Report& report, const StatusOr<std::vector<Row>>& rows);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_REPORT_H_
