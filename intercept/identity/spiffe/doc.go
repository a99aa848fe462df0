// Package spiffe gets the SPIFFE identities of other, unmodified processes from
// the agent on this host, and the daemon's own.
//
// An Attestor binds connections: it asks the agent by the process's number,
// with the SPIFFE Broker API where the agent offers it and with SPIRE's
// Delegated Identity API otherwise, and holds the answer to the process by a
// pidfd and by the loader's proof before and after. A process is attested once
// for all its connections, and again every Recheck; between those the agent's
// stream says at once when an identity is renewed or withdrawn. Sessions hold a
// Lease, which ends when the identity does.
//
// A Source has the daemon's own SVID and the bundles that everything is
// verified with, by the Workload API.
//
// No answer, an empty answer and an answer that can't be verified all mean that
// nobody gets in. See docs/identity-spiffe.md.
package spiffe
