// Package catalog keeps a snapshot of what the names of one PostgreSQL
// database mean: relations with their columns, views, rules, triggers and
// policies, and the functions, operators, casts and types that are not built
// in. The analysis resolves against it, never against the server while a
// statement waits.
//
// The snapshot is read over a side connection of its own. The role needs
// CONNECT on the database and nothing else: pg_catalog is readable by all. It
// should be NOSUPERUSER NOINHERIT NOCREATEDB NOCREATEROLE with
// CONNECTION LIMIT 2, and it must not be able to read any table:
//
//	CREATE ROLE sallyport_catalog LOGIN PASSWORD '...' NOINHERIT CONNECTION LIMIT 2;
//	GRANT CONNECT ON DATABASE clinic TO sallyport_catalog;
//
// A change of the catalog is seen by a checksum over the row versions (xmin,
// ctid) of the catalogs that the snapshot is made of. What another session
// changes is seen at the next Refresh: the time between is a window, and roles
// that may run DDL are trusted for its length.
package catalog
