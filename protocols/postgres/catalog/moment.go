package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// moment is what a transaction's snapshot sees: pg_current_snapshot() in its text
// form, xmin:xmax:xip,... (PostgreSQL, 9.26.8).
type moment struct {
	oldest, next uint64   // transactions before oldest have ended, from next on none has
	running      []uint64 // between them
}

func parseMoment(s string) (m moment, err error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return m, fmt.Errorf("%q is not a snapshot of transactions", s)
	}
	var errs [2]error
	m.oldest, errs[0] = strconv.ParseUint(parts[0], 10, 64)
	m.next, errs[1] = strconv.ParseUint(parts[1], 10, 64)
	err = errors.Join(errs[:]...)
	for id := range strings.SplitSeq(parts[2], ",") {
		if id == "" || err != nil {
			break
		}
		var n uint64
		n, err = strconv.ParseUint(id, 10, 64)
		m.running = append(m.running, n)
	}
	return m, err
}

// sees reports whether m sees all that an older moment saw. Moments of one server
// that is no standby are in an order.
func (m *moment) sees(old *moment) bool {
	if m.next != old.next {
		return m.next > old.next
	}
	return !slices.ContainsFunc(m.running, func(id uint64) bool { return !slices.Contains(old.running, id) })
}

// xid is the oldest transaction as rows name it.
func (m *moment) xid() uint32 { return max(uint32(m.oldest), 3) } // 0 to 2 are none
