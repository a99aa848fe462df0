// Package conformance runs test suites of others against a PostgreSQL server and
// then through a passage that allows everything, where each test must come to the
// same: those of pgx and lib/pq, and the server's own regression tests. It has
// tests only, built with the tag "conformance": make test-conformance.
package conformance
