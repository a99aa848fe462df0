// Package protocols is the seam between a protocol and everything else. A
// protocol reads the client's door, describes each request, and can send to
// the server only what a Decision covers; it never holds the server's writer,
// and knows nothing of NATS, eBPF, approvals or where an identity came from.
package protocols
