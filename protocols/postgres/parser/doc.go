// Package parser runs PostgreSQL's own grammar (libpg_query, PostgreSQL 17)
// in a small pool of helper processes that may die. libpg_query is C that
// recurses without a bound: a sum of 30,000 terms overflows its stack. In a
// helper that ends one statement, in the daemon it would end every session.
//
// A helper is the same binary started again as `<program> parser`, without
// privileges: nobody when it was root, resource limits, no_new_privs, not
// dumpable, and a seccomp filter that leaves memory, threads, the clock and
// the two pipes it was started with: no file can be opened, no socket made,
// nothing executed. It dies with its parent. A statement that takes too long
// costs the helper its life.
//
// SQL is text of at most MaxSQL bytes, valid UTF-8 without NUL: the C library
// would see only what stands before a NUL.
package parser
