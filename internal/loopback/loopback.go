// Package loopback tells which hosts are this machine: what goes to them may go in
// clear.
package loopback

import "net/netip"

// Host reports whether a name or address, without port, leads to this host only.
func Host(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
