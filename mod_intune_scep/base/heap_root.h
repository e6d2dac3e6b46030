/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LeakSanitizer does not look into pools (Debian's APR has their memory from mmap()): what only a struct in a pool refers
 * to counts as lost where the pool outlives the process. A struct that keeps values on the heap, and changes them, says
 * so here, and takes it back before its pool goes. Nothing in a build without sanitizers.
 */
#ifndef ISCEP_BASE_HEAP_ROOT_H
#define ISCEP_BASE_HEAP_ROOT_H

#ifdef ISCEP_SANITIZERS
#include <sanitizer/lsan_interface.h>
#define heap_root_add(object) __lsan_register_root_region((object), sizeof(*(object)))
#define heap_root_remove(object) __lsan_unregister_root_region((object), sizeof(*(object)))
#else
#define heap_root_add(object) ((void)(object))
#define heap_root_remove(object) ((void)(object))
#endif

#endif
