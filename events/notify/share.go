package notify

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"slices"
	"time"
)

// party is whoever makes requests: none of them may keep people from hearing of
// another's.
type party struct{ host, workload string }

// share counts what a channel was told in a minute.
type share struct {
	asked, again int // requests, and escalations of some
	hosts        map[string]int
	parties      map[party]int
}

// may reports whether one more message about a party's requests fits into a minute of
// so many: one is of a Summary, a quarter of the others of escalations alone, and a
// party gets half of them at most.
func (s *share) may(p party, again bool, perMinute int) bool {
	all := perMinute - 1
	return s.asked+s.again < all && s.parties[p] < max(1, all/2) && (again || s.asked < all-all/4)
}

func (s *share) took(p party, again bool) {
	if s.hosts == nil {
		s.hosts, s.parties = map[string]int{}, map[party]int{}
	}
	s.hosts[p.host]++
	s.parties[p]++
	if again {
		s.again++
	} else {
		s.asked++
	}
}

// due are messages of a party about requests that wait.
type due struct {
	party
	again bool
	first int64
}

// pick returns what a channel is told next of requests that wait, of the party that it
// was told of least. Where none may be told, it counts the requests that are due, and
// names the last of their messages.
func (s *store) pick(channel string, now time.Time, told *share, may func(p party, again bool) bool) (t *task, left int, last int64, err error) {
	err = s.in(func(tx *sql.Tx) error {
		all, err := dueOf(tx, channel, now)
		if err != nil || len(all) == 0 {
			return err
		}
		all = slices.DeleteFunc(all, func(d due) bool { return !may(d.party, d.again) })
		if len(all) == 0 {
			return tx.QueryRow(`SELECT count(*), coalesce(max(last), 0) FROM (SELECT max(id) AS last FROM tasks
				WHERE channel = ? AND ends = 0 AND state = ? AND due <= ? GROUP BY host, request)`, channel, waiting, now.UnixMilli()).Scan(&left, &last)
		}
		d := slices.MinFunc(all, func(a, b due) int {
			return cmp.Or(cmp.Compare(told.hosts[a.host], told.hosts[b.host]), cmp.Compare(told.parties[a.party], told.parties[b.party]), cmp.Compare(a.first, b.first))
		})
		t, err = taskOf(tx, channel, d, now)
		return err
	})
	return t, left, last, err
}

func dueOf(tx *sql.Tx, channel string, now time.Time) (all []due, err error) {
	rows, err := tx.Query(`SELECT host, workload, step > 0, min(due) FROM tasks WHERE channel = ? AND ends = 0 AND state = ? AND due <= ? GROUP BY 1, 2, 3`,
		channel, waiting, now.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var d due
		if err := rows.Scan(&d.host, &d.workload, &d.again, &d.first); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

// taskOf returns the first message of those; of several steps of its request that are
// due, the last, which says all.
func taskOf(tx *sql.Tx, channel string, d due, now time.Time) (*task, error) {
	k := &task{}
	var body []byte
	err := tx.QueryRow(`SELECT r.body FROM tasks t JOIN requests r ON r.host = t.host AND r.id = t.request
		WHERE t.channel = ? AND t.ends = 0 AND t.state = ? AND t.due <= ? AND t.host = ? AND t.workload = ? AND (t.step > 0) = ? ORDER BY t.due, t.id LIMIT 1`,
		channel, waiting, now.UnixMilli(), d.host, d.workload, d.again).Scan(&body)
	if err == nil {
		err = json.Unmarshal(body, &k.request)
	}
	if err == nil {
		err = tx.QueryRow(`SELECT id, step, tries FROM tasks WHERE host = ? AND request = ? AND channel = ? AND ends = 0 AND state = ? AND due <= ? ORDER BY step DESC LIMIT 1`,
			k.request.Host, k.request.ID, channel, waiting, now.UnixMilli()).Scan(&k.id, &k.step, &k.tries)
	}
	return k, err
}
