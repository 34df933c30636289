#include "lib/agent/guest/accounts.h"

#include <charconv>

#include "lib/agent/guest/files.h"

namespace ramet::guest {
namespace {

constexpr size_t kMaxGroups = 1024;

std::optional<uint32_t> parse_id(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

bool lists_member(std::string_view members, std::string_view name) {
  while (!members.empty()) {
    if (cut(members, ',') == name) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::optional<Account> find_account(std::string_view passwd, std::string_view name) {
  while (!passwd.empty()) {
    std::string_view line = cut(passwd, '\n');
    if (cut(line, ':') != name) {
      continue;
    }
    cut(line, ':');  // password
    const auto uid = parse_id(cut(line, ':'));
    const auto gid = parse_id(cut(line, ':'));
    if (uid && gid) {
      return Account{*uid, *gid};
    }
  }
  return std::nullopt;
}

std::vector<gid_t> find_groups(std::string_view group, std::string_view name, gid_t primary) {
  std::vector<gid_t> groups = {primary};
  while (!group.empty() && groups.size() < kMaxGroups) {
    std::string_view line = cut(group, '\n');
    cut(line, ':');  // name
    cut(line, ':');  // password
    const auto gid = parse_id(cut(line, ':'));
    if (gid && *gid != primary && lists_member(line, name)) {
      groups.push_back(*gid);
    }
  }
  return groups;
}

std::optional<Credentials> resolve_user(const wire::User& user, const std::string& etc) {
  switch (user.kind) {
    case wire::User::Kind::kRoot:
      return Credentials{};
    case wire::User::Kind::kIds:
      return Credentials{true, user.uid, user.gid, {user.gid}};
    case wire::User::Kind::kName:
      break;
  }
  const auto passwd = read_file(etc + "/passwd");
  const auto account = passwd ? find_account(*passwd, user.name) : std::nullopt;
  if (!account) {
    return std::nullopt;
  }
  const auto group = read_file(etc + "/group");
  return Credentials{true, account->uid, account->gid,
                     find_groups(group.value_or(""), user.name, account->gid)};
}

}  // namespace ramet::guest
