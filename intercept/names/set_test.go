package names_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/names"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func answer(status names.Status, ttl time.Duration, ns ...int) names.Answer {
	a := names.Answer{Name: "db", Status: status, TTL: ttl}
	for _, n := range ns {
		a.Addrs = append(a.Addrs, ip(n))
	}
	return a
}

func nobody(netip.Addr) bool { return false }

func show(s *names.Set) string {
	m := s.Map()["db"]
	return fmt.Sprint(m.Current, m.Old)
}

// The life of an address: it comes, the name leads elsewhere, and it stays for
// as long as it must.
func TestAddressLeaves(t *testing.T) {
	s := names.NewSet(time.Hour)
	s.Want([]string{"db"}, start)
	if !s.Learn(answer(names.OK, time.Minute, 1, 2), start, nobody) || show(s) != "[10.0.0.1 10.0.0.2] []" {
		t.Fatal(show(s))
	}
	if s.Learn(answer(names.OK, time.Minute, 1, 2), start, nobody) {
		t.Error("the same answer changes something")
	}
	// Nothing that is not a complete answer takes anything away.
	for _, a := range []names.Answer{
		answer(names.Unreachable, time.Minute), answer(names.NoName, time.Minute), answer(names.NoAddress, time.Minute), answer(names.Refused, time.Minute),
		answer(names.Partial, time.Minute, 3), answer(names.Cut, time.Minute, 3),
	} {
		s.Learn(a, start, nobody)
	}
	if show(s) != "[10.0.0.1 10.0.0.2 10.0.0.3] []" {
		t.Fatal(show(s))
	}
	now := start.Add(time.Minute)
	if !s.Learn(answer(names.OK, 10*time.Minute, 3), now, nobody) || show(s) != "[10.0.0.3] [10.0.0.1 10.0.0.2]" {
		t.Fatal(show(s))
	}
	// 2 has a connection until long after its time; 1 comes back; then again not.
	s.Learn(answer(names.OK, 10*time.Minute, 1, 3), now, nobody)
	s.Learn(answer(names.OK, 10*time.Minute, 3), now, nobody)
	living := true
	used := func(a netip.Addr) bool { return living && a == ip(2) }
	if s.Due(now.Add(59*time.Minute)) || s.Expire(now.Add(59*time.Minute), used) {
		t.Error("it leaves early")
	}
	now = now.Add(time.Hour)
	if !s.Due(now) || s.Expire(now, used) {
		t.Error("it leaves at once: nobody knows since when it is unused")
	}
	// One TTL more, since a minute is less.
	if s.Expire(now.Add(9*time.Minute), used) {
		t.Error("it leaves within the grace")
	}
	if now = now.Add(10 * time.Minute); !s.Expire(now, used) || show(s) != "[10.0.0.3] [10.0.0.2]" {
		t.Error(show(s))
	}
	living = false
	if s.Expire(now.Add(time.Second), used) || !s.Expire(now.Add(time.Second+10*time.Minute), used) || show(s) != "[10.0.0.3] []" {
		t.Error(show(s))
	}
	if s.Due(now.Add(24 * time.Hour)) {
		t.Error("what is current is due")
	}
}

// However an answer is, it takes nothing away that is current elsewhere, and
// no more is kept than there is room for.
func TestRoom(t *testing.T) {
	s := names.NewSet(time.Hour)
	s.Want([]string{"db"}, start)
	now := start
	for i := range 20 {
		var ns []int
		for k := range 100 {
			ns = append(ns, i*100+k)
		}
		now = now.Add(time.Second)
		s.Learn(answer(names.OK, time.Minute, ns...), now, func(a netip.Addr) bool { return a == ip(7) })
	}
	m := s.Map()["db"]
	if n := len(m.Current) + len(m.Old); n != names.MaxKept || len(m.Current) != 100 {
		t.Errorf("%d are kept, %d of them current", n, len(m.Current))
	}
	if !slices.Contains(m.Old, ip(7)) || slices.Contains(m.Old, ip(8)) {
		t.Error("the oldest went although it is used, or another did not")
	}
	if tr := s.Troubles(now); tr != nil {
		t.Error(tr)
	}
	// All in use: what is new finds no room, which is told once.
	all := func(netip.Addr) bool { return true }
	if s.Learn(answer(names.Partial, time.Minute, 5000), now, all) {
		t.Error("there was room")
	}
	if tr := s.Troubles(now); len(tr) != 1 || !strings.Contains(tr[0].Error(), "db leads to more addresses than can be kept") {
		t.Error(tr)
	}
	if tr := s.Troubles(now); tr != nil {
		t.Error("told twice:", tr)
	}
}

// Of many names none can take the room of all.
func TestRoomOfAll(t *testing.T) {
	s := names.NewSet(time.Hour)
	var list []string
	for i := range 40 {
		list = append(list, fmt.Sprint("n", i))
	}
	s.Want(list, start)
	n := 0
	for i, name := range list {
		for k := range 4 {
			a := names.Answer{Name: name, Status: names.Partial, TTL: time.Minute}
			for j := range names.MaxAddrs {
				a.Addrs = append(a.Addrs, ip(i*1000+k*256+j))
			}
			s.Learn(a, start, nobody)
		}
	}
	for _, a := range s.Map() {
		n += len(a.Current)
	}
	if n != names.MaxAll {
		t.Errorf("%d addresses", n)
	}
	s.Want(list[:1], start)
	if len(s.Map()) != 1 {
		t.Error("names that nobody wants are kept")
	}
	s.Want(list, start)
	if !s.Learn(names.Answer{Name: "n39", Status: names.OK, TTL: time.Minute, Addrs: []netip.Addr{ip(1)}}, start, nobody) {
		t.Error("there is no room after many went")
	}
}

func TestTroubles(t *testing.T) {
	s := names.NewSet(time.Hour)
	s.Want([]string{"db"}, start)
	for _, c := range []struct {
		after time.Duration
		a     names.Answer
		want  string
	}{
		{0, answer(names.Unreachable, time.Minute), ""},
		{10 * time.Second, answer(names.NoName, time.Minute), "db can't be resolved (no-name): nothing is protected"},
		{20 * time.Second, answer(names.OK, time.Minute, 1), ""},
		{time.Minute, answer(names.Refused, time.Minute), ""},
		{5*time.Minute + 20*time.Second, answer(names.Refused, time.Minute), "its last addresses stay protected"},
		{6 * time.Minute, answer(names.Refused, time.Minute), ""},
		{7 * time.Minute, answer(names.Cut, time.Minute, 1), "more than 256 addresses at a time"},
		{8 * time.Minute, answer(names.OK, time.Minute, 1), ""},
		{14 * time.Minute, answer(names.Unreachable, time.Minute), "can't be resolved (unreachable)"},
	} {
		now := start.Add(c.after)
		s.Learn(c.a, now, nobody)
		got := fmt.Sprint(s.Troubles(now))
		if c.want == "" && got != "[]" || !strings.Contains(got, c.want) {
			t.Errorf("after %s: %s, want %q", c.after, got, c.want)
		}
	}
	s.Learn(answer(names.OK, time.Minute, 1, 2), start, nobody)
	s.Refuse("db", []netip.Addr{ip(2)}, fmt.Errorf("too much"))
	if got := fmt.Sprint(s.Troubles(start), show(s)); !strings.Contains(got, "too much") || !strings.Contains(got, "[10.0.0.1] []") {
		t.Error(got)
	}
}

func TestRemembered(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "names", "addresses")
	s := names.NewSet(time.Hour)
	s.Want([]string{"db", "gone"}, start)
	s.Learn(answer(names.OK, time.Minute, 1, 2), start, nobody)
	s.Learn(answer(names.OK, time.Minute, 2), start, nobody)
	s.Learn(names.Answer{Name: "gone", Status: names.OK, TTL: time.Minute, Addrs: []netip.Addr{ip(9)}}, start, nobody)
	if err := s.Save(file); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
	later := names.NewSet(time.Hour)
	later.Want([]string{"db"}, start)
	if err := later.Load(file, start); err != nil || show(later) != "[10.0.0.2] [10.0.0.1]" || len(later.Map()) != 1 {
		t.Error(show(later), err)
	}
	if u := later.Unasked(); len(u) != 1 || len(later.Unknown()) != 0 {
		t.Error(u)
	}
	// Its time goes on where it was.
	if !later.Due(start.Add(time.Hour)) || later.Due(start.Add(time.Hour-time.Second)) {
		t.Error("the time of an old address begins anew")
	}
	none := names.NewSet(time.Hour)
	if err := none.Load(filepath.Join(dir, "none", "nothing"), start); err != nil {
		t.Error(err)
	}
	// What somebody else may have written is not believed.
	if err := os.Chmod(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := later.Load(file, start); err == nil || !strings.Contains(err.Error(), "mode 0700") {
		t.Error(err)
	}
	if err := s.Save(file); err == nil {
		t.Error("it is written where others may write")
	}
	if err := os.Chmod(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := later.Load(file, start); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Error(err)
	}
}

func TestAnswerLines(t *testing.T) {
	a := answer(names.OK, time.Minute, 1, 2)
	a.Addrs = append(a.Addrs, netip.MustParseAddr("2001:db8::1"))
	line := string(names.AppendAnswer(nil, a))
	if line != "db ok 60 10.0.0.1 10.0.0.2 2001:db8::1\n" {
		t.Errorf("%q", line)
	}
	back, err := names.ParseAnswer(strings.TrimSuffix(line, "\n"))
	if err != nil || fmt.Sprint(back) != fmt.Sprint(a) {
		t.Errorf("%v, %v", back, err)
	}
	// What nobody can dial, what is twice, and IPv4 in IPv6.
	back, err = names.ParseAnswer("db ok 5 ::ffff:10.0.0.1 10.0.0.1 0.0.0.0 :: 224.0.0.1 255.255.255.255")
	if err != nil || fmt.Sprint(back.Addrs) != "[10.0.0.1]" {
		t.Errorf("%v, %v", back, err)
	}
	if back, err := names.ParseAnswer("db ok 5 0.0.0.0"); err != nil || back.Status != names.NoAddress {
		t.Errorf("%v, %v", back, err)
	}
	many := "db ok 60" + strings.Repeat(" 10.0.0.1", names.MaxAddrs+1)
	for _, bad := range []string{
		"", "db", "db ok", "db ok 60", "db ok 4 10.0.0.1", "db ok 3601 10.0.0.1", "db ok -5 10.0.0.1", "db ok 60 10.0.0.256", "db ok 60  10.0.0.1",
		"db ok 60 db", "db yes 60 10.0.0.1", "db no-name 60 10.0.0.1", "db ok 60 fe80::1%lo", "db ok 60 10.0.0.1\t", many, strings.Repeat("x", names.MaxLine),
	} {
		if a, err := names.ParseAnswer(bad); err == nil {
			t.Errorf("%.40q was read as %v", bad, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("db ok 60 10.0.0.1 2001:db8::1")
	f.Add("db no-name 5")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := names.ParseAnswer(line)
		if err != nil {
			return
		}
		if len(a.Addrs) > names.MaxAddrs || a.TTL < names.MinTTL || a.TTL > names.MaxTTL {
			t.Errorf("%q: %v", line, a)
		}
		for _, addr := range a.Addrs {
			if !names.Dialable(addr) || addr.Is4In6() || addr.Zone() != "" {
				t.Errorf("%q: %s", line, addr)
			}
		}
		s := names.NewSet(time.Hour)
		s.Want([]string{a.Name}, start)
		s.Learn(a, start, nobody)
		if m := s.Map()[a.Name]; len(m.Current) != len(a.Addrs) {
			t.Errorf("%q: %v", line, m)
		}
	})
}

// Whatever comes: an address that the latest complete answer held, or that a
// later partial one did, is there and current; one that was there less than
// its time ago is there.
func TestAnyAnswers(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := names.NewSet(time.Minute)
		s.Want([]string{"db"}, start)
		now, seen, current := start, map[netip.Addr]time.Time{}, map[netip.Addr]bool{}
		for range 200 {
			now = now.Add(time.Duration(r.IntN(30)) * time.Second)
			var ns []int
			for n := range 8 {
				if r.IntN(3) == 0 {
					ns = append(ns, n)
				}
			}
			st := []names.Status{names.OK, names.Partial, names.NoName, names.Unreachable}[r.IntN(4)]
			if st == names.NoName || st == names.Unreachable || len(ns) == 0 {
				st, ns = names.Unreachable, nil
			}
			if st == names.OK {
				for a := range current {
					seen[a] = now
				}
				clear(current)
			}
			for _, n := range ns {
				current[ip(n)], seen[ip(n)] = true, now
			}
			s.Learn(answer(st, 5*time.Second, ns...), now, nobody)
			s.Expire(now, nobody)
			m := s.Map()["db"]
			for a := range current {
				if !slices.Contains(m.Current, a) {
					t.Fatalf("seed %d: %s is not current: %v", seed, a, m)
				}
			}
			if len(m.Current) != len(current) {
				t.Fatalf("seed %d: current are %v, want %v", seed, m.Current, current)
			}
			for a, at := range seen {
				if now.Sub(at) < time.Minute && !current[a] && !slices.Contains(m.Old, a) {
					t.Fatalf("seed %d: %s was forgotten after %s", seed, a, now.Sub(at))
				}
			}
		}
	}
}
