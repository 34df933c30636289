// Users and groups from the text of passwd(5) and group(5). Our own few lines, because a static
// program has no NSS.
//
// Thread rule: pure functions but for resolve_user(), which reads two files.
#ifndef RAMET_LIB_AGENT_GUEST_ACCOUNTS_H_
#define RAMET_LIB_AGENT_GUEST_ACCOUNTS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/agent/wire.h"

namespace ramet::guest {

struct Credentials {
  bool change = false;  // false: stay what the agent is
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, the primary group included
};

struct Account {
  uid_t uid = 0;
  gid_t gid = 0;
};

// The first well-formed line for `name`; ids are decimal and fit 32 bits.
std::optional<Account> find_account(std::string_view passwd, std::string_view name);
// `primary` and the groups that list `name` as a member.
std::vector<gid_t> find_groups(std::string_view group, std::string_view name, gid_t primary);
// What `user` means under `etc` ("/etc"); nothing when there is no such name.
std::optional<Credentials> resolve_user(const wire::User& user, const std::string& etc);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_ACCOUNTS_H_
