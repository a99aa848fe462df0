// Package resolver finds what names lead to, for a loader that must not read
// what comes from the network: it runs in a process of its own, without any
// privilege, and tells its answers by lines that names.ParseAnswer reads.
//
// It asks the servers of resolv.conf(5), IPv4 and IPv6, follows CNAMEs, and
// adds what hosts(5) says. Names are absolute: search lists are not used. A
// name is asked again when the shortest TTL on the way to its addresses is
// over (names.MinTTL to names.MaxTTL), or when hosts changes.
package resolver
