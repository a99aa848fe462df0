// Package names keeps which addresses the DNS names of protected services
// lead to, and led to.
//
// An answer can only add protection. What a name led to before stays known:
// until a complete answer is without it, for a time after that, and for as
// long as a connection to it lives. No answer at all takes nothing away.
//
// DNS itself is spoken by a process without privilege (package resolver). It
// sends one Answer a line, and ParseAnswer believes nothing but addresses in
// it.
package names
