// RAMET_EXPORT marks what libramet.so gives away; everything else in it is hidden.
//
// Thread rule: a macro.
#ifndef RAMET_EXPORT_H_
#define RAMET_EXPORT_H_

#define RAMET_EXPORT __attribute__((visibility("default")))

#endif  // RAMET_EXPORT_H_
