#include "bench/samples.h"

#include <algorithm>
#include <cmath>

#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

namespace ramet::bench {
namespace {

constexpr double kHigh = 0.99;
constexpr int kMetricWidth = 34;

std::string plain(const std::optional<double>& value) {
  return value ? absl::StrFormat("%.2f", *value) : "";
}

std::string cell(const std::optional<double>& value) {
  return value ? absl::StrFormat("%12.1f", *value) : absl::StrFormat("%12s", "n/a");
}

}  // namespace

std::optional<double> quantile(std::vector<double> samples, double q) {
  if (samples.empty()) {
    return std::nullopt;
  }
  const auto rank =
      static_cast<size_t>(std::max(0.0, std::ceil(q * static_cast<double>(samples.size())) - 1));
  const auto at = samples.begin() + static_cast<std::ptrdiff_t>(std::min(rank, samples.size() - 1));
  std::nth_element(samples.begin(), at, samples.end());
  return *at;
}

std::optional<double> Row::ratio(double q) const {
  const auto mine = quantile(a, q);
  const auto other = quantile(b, q);
  return mine && other && *other > 0 ? std::optional<double>(*mine / *other) : std::nullopt;
}

bool Row::misses_bar() const {
  const auto misses = [](const std::optional<double>& found, const std::optional<double>& most) {
    return most && (!found || *found > *most);
  };
  return misses(ratio(), bar) || misses(ratio(kHigh), p99_bar);
}

std::string format_table(const std::string& title, const std::vector<Row>& rows,
                         const Sides& sides) {
  std::string text = title + "\n";
  text += absl::StrFormat("%-*s%12s%12s%12s%12s%7s%6s%7s%6s\n", kMetricWidth, "", sides.a + " p50",
                          sides.a + " p99", sides.b + " p50", sides.b + " p99", "ratio", "bar",
                          "p99", "bar");
  for (const Row& row : rows) {
    text += absl::StrFormat("%-*s%s%s%s%s%7s%6s%7s%6s\n", kMetricWidth,
                            row.metric + " [" + row.unit + "]", cell(quantile(row.a, 0.5)),
                            cell(quantile(row.a, kHigh)), cell(quantile(row.b, 0.5)),
                            cell(quantile(row.b, kHigh)), plain(row.ratio()), plain(row.bar),
                            plain(row.ratio(kHigh)), plain(row.p99_bar));
  }
  return text;
}

std::string format_json(const std::string& name, const std::vector<Row>& rows) {
  nlohmann::json json = {{"bench", name}, {"rows", nlohmann::json::array()}};
  for (const Row& row : rows) {
    nlohmann::json object = {
        {"metric", row.metric}, {"unit", row.unit}, {"a", row.a}, {"b", row.b}};
    const auto put = [&](const char* key, const std::optional<double>& value) {
      object[key] = value ? nlohmann::json(*value) : nlohmann::json();
    };
    put("bar", row.bar);
    put("ratio", row.ratio());
    put("p99_bar", row.p99_bar);
    put("p99_ratio", row.ratio(kHigh));
    json["rows"].push_back(object);
  }
  return json.dump(1) + "\n";
}

}  // namespace ramet::bench
