package intercept

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Route says what the endpoints of a destination lead to.
type Route[V any] struct {
	Destination
	To V
}

// Routes finds the most specific of many destinations that holds an endpoint:
// the one with the longest prefix. It costs one look-up for each length of
// prefix that there is, whatever the number of destinations. Routes do not
// change; the zero Routes is empty.
type Routes[V any] struct {
	bits  [2][]int // lengths of prefixes, longest first; of IPv4, of IPv6
	spans map[netip.Prefix][]span[V]
}

// span is a range of ports; those of one prefix are in order and apart.
type span[V any] struct {
	first, last uint16
	to          V
}

// NewRoutes refuses destinations that can't be protected, and two that
// overlap without one being more specific (Overlaps).
func NewRoutes[V any](routes []Route[V]) (*Routes[V], error) {
	r := &Routes[V]{spans: make(map[netip.Prefix][]span[V], len(routes))}
	all := make([]Destination, len(routes))
	for i, d := range routes {
		if err := d.Check(); err != nil {
			return nil, err
		}
		all[i] = d.Destination
		family := family(d.Prefix.Addr())
		if !slices.Contains(r.bits[family], d.Prefix.Bits()) {
			r.bits[family] = append(r.bits[family], d.Prefix.Bits())
		}
		r.spans[d.Prefix] = append(r.spans[d.Prefix], span[V]{d.First, d.Last, d.To})
	}
	if o := Overlaps(all); len(o) > 0 {
		return nil, fmt.Errorf("destinations %s and %s overlap, and neither is more specific", all[o[0][0]], all[o[0][1]])
	}
	for _, b := range r.bits {
		slices.SortFunc(b, func(a, b int) int { return b - a })
	}
	for _, s := range r.spans {
		slices.SortFunc(s, func(a, b span[V]) int { return cmp.Compare(a.first, b.first) })
	}
	return r, nil
}

// Find returns what an endpoint leads to. IPv4 may come mapped into IPv6; a
// zone is not looked at.
func (r *Routes[V]) Find(a netip.AddrPort) (to V, ok bool) {
	addr := a.Addr().Unmap().WithZone("")
	if !addr.IsValid() {
		return to, false
	}
	for _, bits := range r.bits[family(addr)] {
		p, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		spans := r.spans[p]
		i, found := slices.BinarySearchFunc(spans, a.Port(), func(s span[V], port uint16) int {
			switch {
			case s.last < port:
				return -1
			case s.first > port:
				return 1
			}
			return 0
		})
		if found {
			return spans[i].to, true
		}
	}
	return to, false
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Overlaps returns the pairs of destinations, by their place in the list and
// the earlier one first, that have a prefix and some port in common: nothing
// says to which of them an endpoint belongs. Each that overlaps is in a pair.
func Overlaps(all []Destination) (pairs [][2]int) {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := all[i], all[j]
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.First, b.First))
	})
	widest := -1 // of those before with the same prefix, the one that ends last
	for _, i := range order {
		if widest < 0 || all[widest].Prefix != all[i].Prefix {
			widest = i
			continue
		}
		if all[i].First <= all[widest].Last {
			pairs = append(pairs, [2]int{min(i, widest), max(i, widest)})
		}
		if all[i].Last > all[widest].Last {
			widest = i
		}
	}
	slices.SortFunc(pairs, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[1], b[1]), cmp.Compare(a[0], b[0])) })
	return pairs
}
