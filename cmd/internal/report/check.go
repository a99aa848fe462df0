package report

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// ErrNoOutcome is what Check says of a bundle with an access whose outcome is in
// no record there. Nothing tells it from one whose outcome was taken out, except
// the archive's SHA-256.
var ErrNoOutcome = errors.New("no outcome is in the bundle")

// Checked is what Check found.
type Checked struct {
	SHA256  string // of the archive, hex
	Records int    // whose links were followed
	Proved  int    // whose hash was recomputed
	Claims  int    // accesses, refusals, approvals and notes that were made again of them
	Faults  int    // of the store, as the report says: what is not sound in it

	Logged  int      // of Records, that are proved to be in the log
	Log     LogState // whose checkpoint is in the bundle; zero for none
	Signers []string // whose signatures that has, of those that were asked for
	// Signed are the chains that their host signed, if its keys were asked for, Unsigned the
	// records behind their last signatures.
	Signed   int
	Unsigned uint64
}

// Require says what Check wants of a bundle besides. Zero parts want nothing.
type Require struct {
	SHA256 string          // of the archive, hex
	Log    *tlog.Keys      // each record must be in the log, whose checkpoint these have signed
	Hosts  events.HostKeys // each checkpoint of a chain must be signed by one of its host's
}

// Check verifies a bundle offline: its files against the manifest, each chain from
// record to record, and the report by making it again of the chains, in all its
// forms. With want, the archive must have this SHA-256 (hex). Only that covers what
// is Given, and what was left out together with its content.
func Check(file, want string) (Checked, error) { return CheckWith(file, Require{SHA256: want}) }

// CheckWith is Check, and requires more.
func CheckWith(file string, must Require) (c Checked, err error) {
	want := must.SHA256
	bad := func(err error) (Checked, error) { return c, fmt.Errorf("report: %s: %w", file, err) }
	in, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("report: %w", err)
	}
	defer in.Close()
	h := sha256.New()
	size, err := io.Copy(h, in)
	if err != nil {
		return bad(err)
	}
	if c.SHA256 = hex.EncodeToString(h.Sum(nil)); want != "" && !strings.EqualFold(want, c.SHA256) {
		return bad(fmt.Errorf("its SHA-256 is %s, not the one that was asked for", c.SHA256))
	}
	z, err := zip.NewReader(in, size)
	if err != nil {
		return bad(err)
	}
	files, err := unpack(z)
	if err != nil {
		return bad(err)
	}
	if err := whole(in, size, z); err != nil {
		return bad(err)
	}
	said, err := files.held("report.json")
	if err != nil {
		return bad(err)
	}
	var given struct {
		Given
		Chains []Chain `json:"chains"`
	}
	if err := json.Unmarshal(said, &given); err != nil {
		return bad(fmt.Errorf("report.json: %w", err))
	}
	g, err := given.normal()
	if err != nil {
		return bad(err)
	}
	m := newMaker(g)
	if len(g.Filter.Subjects) > 0 {
		for i := range given.Chains {
			if err := files.read(chainFile(i+1), func(in io.Reader) error { return look(in, &given.Chains[i], m) }); err != nil {
				return bad(err)
			}
		}
	}
	m.of = m.sights()
	if g.Log != nil || must.Log != nil {
		if err := files.checkpoint(g.Log, must.Log, &c); err != nil {
			return bad(err)
		}
	}
	for i := range given.Chains {
		f := follower{c: &c, m: m, ch: &given.Chains[i], hosts: must.Hosts}
		if g.Log != nil {
			if f := files[logFile(i+1)]; f != nil && f.UncompressedSize64 > maxHeld {
				return bad(fmt.Errorf("%q: %w: %d bytes at most", f.Name, errTooMuch, maxHeld))
			}
			if err := files.read(logFile(i+1), f.entries); err != nil {
				return bad(err)
			}
		}
		if err := files.read(chainFile(i+1), f.follow); err != nil {
			return bad(err)
		}
	}
	m.finish()
	made, err := forms(m.Report)
	if err != nil {
		return bad(err)
	}
	for _, f := range made {
		is, err := files.held(f.name)
		if err != nil {
			return bad(err)
		}
		if !bytes.Equal(is, f.content) {
			return bad(fmt.Errorf("%s: line %d is not what the chains say (the bundle says that it was made by %q: verify with that version)", f.name, differ(is, f.content), g.Program))
		}
	}
	n := len(made) + len(m.Chains) + 1
	if g.Log != nil {
		n += len(m.Chains) + 1
	}
	if len(files) != n {
		return bad(errors.New("it has files that are of no report"))
	}
	for i := range m.Accesses {
		if a := &m.Accesses[i]; a.Outcome == "" && want == "" {
			return bad(fmt.Errorf("access %s: %w: it had not ended when the bundle was made, or its outcome was taken out; only the archive's SHA-256 tells (--sha256)", a.Record, ErrNoOutcome))
		}
	}
	c.Faults = len(m.Faults)
	c.Claims = len(m.Accesses) + len(m.Refused) + len(m.Approvals) + len(m.Policies) + len(m.Hosts)
	return c, nil
}

// differ is the first line, from 1, in which two texts that differ do.
func differ(a, b []byte) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return 1 + bytes.Count(a[:i], []byte("\n"))
}

func digest(to *[32]byte, s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && copy(to[:], b) == len(to) && len(b) == len(to)
}
