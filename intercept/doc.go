// Package intercept is the vocabulary of a connection that the kernel turned
// into the passage, and of who is behind it.
//
// Leaves: intercept/redirect makes the kernel do it, intercept/identity binds
// what the kernel knows to a workload and a verified identity, and
// intercept/privsep is the line between the small process that holds the
// capabilities and the daemon that parses hostile bytes.
package intercept
