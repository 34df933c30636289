// Samples of two things measured alternately, and what is said of them: p50, p99 and the ratio.
//
// Thread rule: plain values.
// Invariant: samples stay in the order taken.
#ifndef RAMET_BENCH_SAMPLES_H_
#define RAMET_BENCH_SAMPLES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ramet::bench {

// One row of a bench: Ramet's samples (a) beside the floor's or a peer's (b). Either may be empty:
// not applicable.
struct Row {
  std::string metric;
  std::vector<double> a = {};
  std::vector<double> b = {};
  std::string unit = "us";
  std::optional<double> bar = {};      // the ratio of the medians must not be above it
  std::optional<double> p99_bar = {};  // nor that of the p99s above this

  std::optional<double> ratio(double q = 0.5) const;
  bool misses_bar() const;
};

// The q-quantile (0..1) by nearest rank; nothing for no samples.
std::optional<double> quantile(std::vector<double> samples, double q);

// Whose samples a row's are, as the head of a table.
struct Sides {
  std::string a = "ramet";
  std::string b = "floor";
};

// A table for people, and {"bench": name, "rows": [...]} with every sample for machines.
std::string format_table(const std::string& title, const std::vector<Row>& rows,
                         const Sides& sides = {});
std::string format_json(const std::string& name, const std::vector<Row>& rows);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_SAMPLES_H_
