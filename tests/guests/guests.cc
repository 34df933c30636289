#include <iterator>

#include "tests/guests/guest.h"

namespace ramet::testing {

const HostileGuests& hostile_guests() {
  static const HostileGuests kAll = [] {
    HostileGuests all;
    for (const auto list : {processor_guests, bus_guests, ring_guests, block_guests,
                            transport_guests, vsock_guests}) {
      std::ranges::move(list(), std::back_inserter(all));
    }
    return all;
  }();
  return kAll;
}

}  // namespace ramet::testing
