package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of an answer.
const (
	MaxAddrs = 256             // of one answer
	MinTTL   = 5 * time.Second // however short the servers' own is
	MaxTTL   = time.Hour       // however long
	MaxLine  = 16 << 10        // bytes of a line, its end included
)

// Status says what an answer is worth.
type Status string

const (
	OK          Status = "ok"          // these are all the addresses
	Partial     Status = "partial"     // some of the servers' answers are missing
	Cut         Status = "cut"         // there were more than MaxAddrs
	NoName      Status = "no-name"     // there is no such name
	NoAddress   Status = "no-address"  // the name has none
	Refused     Status = "refused"     // a server refuses, or fails
	Malformed   Status = "malformed"   // what came was no answer to the question
	Unreachable Status = "unreachable" // no server answers
)

var statuses = []Status{OK, Partial, Cut, NoName, NoAddress, Refused, Malformed, Unreachable}

// Answer is what was found about a name.
type Answer struct {
	Name   string
	Status Status
	TTL    time.Duration // until it is asked again; MinTTL to MaxTTL, whole seconds
	Addrs  []netip.Addr  // IPv4 as such; in order, each once; none unless OK, Partial or Cut
}

// found reports whether the answer has addresses.
func (s Status) found() bool { return s == OK || s == Partial || s == Cut }

// AppendAnswer appends an answer as one line: name, status, seconds, addresses.
func AppendAnswer(b []byte, a Answer) []byte {
	b = fmt.Appendf(b, "%s %s %d", a.Name, a.Status, a.TTL/time.Second)
	for _, addr := range a.Addrs {
		b = addr.AppendTo(append(b, ' '))
	}
	return append(b, '\n')
}

// ParseAnswer reads a line of AppendAnswer, without its end. The process that
// wrote it may be taken over: a time or an address that can't be is an error.
// Addresses that nobody can dial (0.0.0.0, multicast) are left out.
func ParseAnswer(line string) (a Answer, err error) {
	f := strings.Split(line, " ")
	if len(line) >= MaxLine || len(f) < 3 || len(f) > 3+MaxAddrs {
		return a, fmt.Errorf("an answer of %d words in %d bytes is none", len(f), len(line))
	}
	a.Name, a.Status = f[0], Status(f[1])
	seconds, err := strconv.ParseUint(f[2], 10, 16)
	a.TTL = time.Duration(seconds) * time.Second
	switch {
	case err != nil || a.TTL < MinTTL || a.TTL > MaxTTL:
		return Answer{}, fmt.Errorf("an answer holds for %.20q seconds", f[2])
	case !slices.Contains(statuses, a.Status):
		return Answer{}, fmt.Errorf("an answer of status %.20q", f[1])
	case a.Status.found() != (len(f) > 3):
		return Answer{}, fmt.Errorf("an answer of status %s with %d addresses", a.Status, len(f)-3)
	}
	for _, s := range f[3:] {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return Answer{}, fmt.Errorf("an answer with an address %.50q", s)
		}
		if addr = addr.Unmap(); Dialable(addr) {
			a.Addrs = append(a.Addrs, addr)
		}
	}
	slices.SortFunc(a.Addrs, netip.Addr.Compare)
	a.Addrs = slices.Compact(a.Addrs)
	if a.Status.found() && len(a.Addrs) == 0 {
		a.Status = NoAddress
	}
	return a, nil
}

// Dialable reports whether a connection to an address can go anywhere.
func Dialable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
