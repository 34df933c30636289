#include "bench/samples.h"

#include <algorithm>
#include <cmath>

#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

namespace ramet::bench {
namespace {

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

std::optional<double> Row::ratio() const {
  const auto mine = quantile(a, 0.5);
  const auto other = quantile(b, 0.5);
  return mine && other && *other > 0 ? std::optional<double>(*mine / *other) : std::nullopt;
}

bool Row::misses_bar() const { return bar && (!ratio() || *ratio() > *bar); }

std::string format_table(const std::string& title, const std::vector<Row>& rows,
                         const Sides& sides) {
  std::string text = title + "\n";
  text += absl::StrFormat("%-26s%12s%12s%12s%12s%9s%8s\n", "", sides.a + " p50", sides.a + " p99",
                          sides.b + " p50", sides.b + " p99", "ratio", "bar");
  for (const Row& row : rows) {
    const auto ratio = row.ratio();
    text += absl::StrFormat("%-26s%s%s%s%s%9s%8s\n", row.metric + " [" + row.unit + "]",
                            cell(quantile(row.a, 0.5)), cell(quantile(row.a, 0.99)),
                            cell(quantile(row.b, 0.5)), cell(quantile(row.b, 0.99)),
                            ratio ? absl::StrFormat("%.2f", *ratio) : "",
                            row.bar ? absl::StrFormat("%.2f", *row.bar) : "");
  }
  return text;
}

std::string format_json(const std::string& name, const std::vector<Row>& rows) {
  nlohmann::json json = {{"bench", name}, {"rows", nlohmann::json::array()}};
  for (const Row& row : rows) {
    nlohmann::json object = {
        {"metric", row.metric}, {"unit", row.unit}, {"a", row.a}, {"b", row.b}};
    object["bar"] = row.bar ? nlohmann::json(*row.bar) : nlohmann::json();
    object["ratio"] = row.ratio() ? nlohmann::json(*row.ratio()) : nlohmann::json();
    json["rows"].push_back(object);
  }
  return json.dump(1) + "\n";
}

}  // namespace ramet::bench
