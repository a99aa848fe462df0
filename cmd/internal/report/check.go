package report

import (
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// most bounds what is read of one file of a bundle that somebody sends.
const most = 4 << 30

// Checked is what Check found.
type Checked struct {
	Records int // whose links were followed
	Proved  int // whose hash was recomputed
	Claims  int // accesses, refusals, approvals and notes that are in a proved record
}

// Check verifies a bundle offline: its files against the manifest, each chain
// from record to record, and what report.json says against the records.
func Check(file string) (c Checked, err error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return c, fmt.Errorf("report: %s: %w", file, err)
	}
	defer z.Close()
	if err := files(&z.Reader); err != nil {
		return c, fmt.Errorf("report: %s: %w", file, err)
	}
	var r Report
	if err := read(&z.Reader, "report.json", func(in io.Reader) error { return json.NewDecoder(in).Decode(&r) }); err != nil {
		return c, fmt.Errorf("report: %s: report.json: %w", file, err)
	}
	proved := provedEvents{map[string]ocsf.View{}, map[key]outcome{}}
	for _, ch := range r.Chains {
		if ch.File == "" {
			if ch.Records > 0 {
				return c, fmt.Errorf("report: chain %s of %s is not in the bundle", ch.Chain, ch.Host)
			}
			continue
		}
		if err := read(&z.Reader, ch.File, func(in io.Reader) error { return follow(in, &ch, &c, proved) }); err != nil {
			return c, fmt.Errorf("report: %s: %w", ch.File, err)
		}
	}
	if c.Claims, err = claims(&r, proved); err != nil {
		return c, fmt.Errorf("report: report.json: %w", err)
	}
	return c, nil
}

// provedEvents are those of records whose hash was recomputed.
type provedEvents struct {
	events   map[string]ocsf.View // by their ids
	outcomes map[key]outcome      // of statements
}

type outcome struct{ rows, bytes int64 }

func read(z *zip.Reader, name string, f func(io.Reader) error) error {
	in, err := z.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return f(io.LimitReader(in, most))
}

// files holds the files against the manifest: none is missing, changed or added.
func files(z *zip.Reader) error {
	want := map[string]string{}
	err := read(z, manifest, func(in io.Reader) error {
		s := bufio.NewScanner(in)
		for s.Scan() {
			sum, name, ok := strings.Cut(s.Text(), "  ")
			if !ok {
				return errors.New("a line that is none of sha256sum")
			}
			want[name] = sum
		}
		return s.Err()
	})
	if err != nil {
		return fmt.Errorf("%s: %w", manifest, err)
	}
	seen := map[string]bool{}
	for _, f := range z.File {
		if f.Name == manifest && !seen[f.Name] {
			seen[f.Name] = true
			continue
		}
		sum, ok := want[f.Name]
		if !ok || seen[f.Name] || !fs.ValidPath(f.Name) {
			return fmt.Errorf("%q is not in %s", f.Name, manifest)
		}
		seen[f.Name] = true
		h := sha256.New()
		if err := read(z, f.Name, func(in io.Reader) error { _, err := io.Copy(h, in); return err }); err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != sum {
			return fmt.Errorf("%s was changed", f.Name)
		}
	}
	for name := range want {
		if !seen[name] {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// follow reads a chain, and notes the events that it proves by their ids.
func follow(in io.Reader, ch *Chain, c *Checked, proved provedEvents) error {
	d := json.NewDecoder(in)
	var seq uint64
	prev, last := strings.Repeat("0", 64), ""
	for d.More() {
		var l link
		if err := d.Decode(&l); err != nil {
			return err
		}
		c.Records++
		seq++
		switch {
		case l.Seq != seq:
			return fmt.Errorf("record %d is missing", seq)
		case l.Prev != prev:
			return fmt.Errorf("record %d does not follow record %d", seq, seq-1)
		}
		prev, last = l.Hash, l.Hash
		if l.Payload == nil {
			continue
		}
		r := events.Record{Chain: ch.Chain, Seq: l.Seq, Kind: events.Kind(l.Kind), Protocol: l.Protocol, Session: l.Session, Payload: []byte(*l.Payload)}
		if _, err := hex.Decode(r.Prev[:], []byte(l.Prev)); err != nil {
			return err
		}
		if sum := r.Sum(); hex.EncodeToString(sum[:]) != l.Hash {
			return fmt.Errorf("record %d was changed", seq)
		}
		c.Proved++
		if v, err := ocsf.Decode(r.Payload); err == nil {
			proved.events[recordID(&r)] = v
			if r.Kind == events.Response || r.Kind == events.Statement {
				k := key{ch.Host, v.Session, v.Number}
				o := proved.outcomes[k]
				proved.outcomes[k] = outcome{o.rows + max(v.Rows, 0), o.bytes + max(v.Bytes, 0)}
			}
		}
	}
	if seq != ch.Last || last != ch.Hash {
		return fmt.Errorf("it ends with record %d, the report says %d with another hash", seq, ch.Last)
	}
	return nil
}

// claims looks up what a report says in what is proved.
func claims(r *Report, proved provedEvents) (n int, err error) {
	for _, list := range [][]Access{r.Accesses, r.Refused} {
		for i := range list {
			a := &list[i]
			v, ok := proved.events[a.Record]
			if !ok {
				return n, fmt.Errorf("access %s is in no record", a.Record)
			}
			if !v.Time.Equal(a.Time) || v.Session != a.Session || v.Number != a.Statement || v.Verdict != a.Verdict || v.Workload != a.Workload ||
				v.Actor != a.Agent || v.Principal != a.Principal || v.Normalized != a.Query || strings.Join(v.Objects, " ") != strings.Join(a.Relations, " ") ||
				strings.Join(v.Masked, " ") != strings.Join(a.Masked, " ") || strings.Join(v.Revealed, " ") != strings.Join(a.Revealed, " ") || v.Justification != a.Justification {
				return n, fmt.Errorf("access %s is not what its record says", a.Record)
			}
			if o := proved.outcomes[key{a.Host, a.Session, a.Statement}]; v.Kind == events.Statement.String() && (o != outcome{a.Rows, a.Bytes}) {
				return n, fmt.Errorf("the outcome of access %s is not what its records say", a.Record)
			}
			n++
		}
	}
	listed := map[string]bool{}
	for _, list := range [][]Access{r.Accesses, r.Refused} {
		for i := range list {
			listed[list[i].Record] = true
		}
	}
	for id, v := range proved.events {
		if (v.Kind == events.Statement.String() || v.Kind == events.Block.String()) && !listed[id] {
			return n, fmt.Errorf("record %s is of an access that is left out", id)
		}
	}
	for i := range r.Approvals {
		a := &r.Approvals[i]
		if v, ok := proved.events[a.Record]; !ok || v.Approval == nil || *v.Approval != a.Approval {
			return n, fmt.Errorf("approval %s is not what its record says", a.Record)
		}
		n++
	}
	for _, list := range [][]Note{r.Policies, r.Hosts} {
		for _, note := range list {
			v, ok := proved.events[note.Record]
			if !ok || v.Message != note.Text {
				return n, fmt.Errorf("note %s is not what its record says", note.Record)
			}
			n++
		}
	}
	return n, nil
}
