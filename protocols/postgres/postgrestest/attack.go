package postgrestest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Attack is an attempt of the corpus in testdata/attacks, or one of its
// harmless cases. The README there says how a file is read.
type Attack struct {
	Name       string
	Statements []string
	Want       string   // what must come of it through the passage; see Holds
	Login      string   // startup parameters besides the usual: "replication=database"
	Approved   []string // statements of another session, whose approvals are given before

	since, until int // the server majors that read it as it is meant, 0 for any

	// What shows that it works without a passage. When nothing is declared, a
	// planted value comes back.
	Tells  bool   // the answer is another one where the protected values are others
	Shows  string // a line of the rows that come back
	Says   string // what comes back anywhere: a message, a column's name
	Effect string // a query that finds what was done
}

// Leaks reports that a planted value is what the attempt carries away.
func (a *Attack) Leaks() bool { return !a.Tells && a.Shows == "" && a.Says == "" && a.Effect == "" }

// Known reports that the server's major reads what is said as it is meant.
func (a *Attack) Known() bool {
	return a.since <= Major() && (a.until == 0 || Major() <= a.until)
}

// Attacks reads files of the corpus: all of dir that match the pattern.
func Attacks(dir, pattern string) (out []Attack, err error) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for _, part := range strings.Split("\n"+string(b), "\n-- case: ")[1:] {
			a, err := attack(part)
			if err == nil && names[a.Name] {
				err = errors.New("there is another of that name")
			}
			if err != nil {
				return nil, fmt.Errorf("%s: case %q: %w", f, a.Name, err)
			}
			names[a.Name] = true
			if !a.Known() && a.Want != "ended" {
				a.Want = "" // it says what a server does that reads it as meant
			}
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no case in %s of %s", pattern, dir)
	}
	return out, nil
}

func attack(text string) (a Attack, err error) {
	name, body, _ := strings.Cut(text, "\n")
	a.Name = strings.TrimSpace(name)
	var sql strings.Builder
	for line := range strings.Lines(body + "\n") {
		_, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(line, "-- want:"):
			a.Want = value
		case strings.HasPrefix(line, "-- since:"):
			a.since, err = strconv.Atoi(value)
		case strings.HasPrefix(line, "-- until:"):
			a.until, err = strconv.Atoi(value)
		case strings.HasPrefix(line, "-- login:"):
			a.Login = value
		case strings.HasPrefix(line, "-- approved:"):
			a.Approved = strings.Split(value, " ;; ")
		case strings.HasPrefix(line, "-- shows:"):
			a.Shows = value
		case strings.HasPrefix(line, "-- says:"):
			a.Says = value
		case strings.HasPrefix(line, "-- effect:"):
			a.Effect = long.Replace(value)
		case strings.HasPrefix(line, "-- tells"):
			a.Tells = true
		default:
			sql.WriteString(line)
		}
		if err != nil {
			return a, err
		}
	}
	for s := range strings.SplitSeq(sql.String(), "\n;;\n") {
		if s = strings.TrimSpace(s); s != "" {
			a.Statements = append(a.Statements, long.Replace(s))
		}
	}
	if len(a.Statements) == 0 {
		return a, errors.New("it says nothing")
	}
	return a, nil
}

// Stolen begins the names of files that attempts have the server write. They are this
// process's own, so that two runs on one host do not find each other's.
var Stolen = fmt.Sprintf("/tmp/sallyport-attack-%d-", os.Getpid())

// long stands for what would be tiresome to read, or is of this run.
var long = strings.NewReplacer("{stolen}", Stolen, "{long}", strings.Repeat("so it goes ", 5000), "{parens}", strings.Repeat("(", 150), "{closes}", strings.Repeat(")", 150))

// planted are the protected values of the corpus' clinic, and what is left of
// them in slices, in lower case; and its dates in binary form.
var planted = func() [][]byte {
	var out [][]byte
	for _, c := range []string{
		"canary", "yranac", "91147", "92258", "93369", "99991", "911-4", "922-5", "933-6", "999-9",
		"03-17", "04-28", "05-19", "09-09", "7781", "7782", "7783", "7789",
		"43414e415259", "q0foqvj", "nbtkfs", "dqu5bu", // CANARY in hex and base64
	} {
		out = append(out, []byte(c))
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, d := range []string{"1951-03-17", "1962-04-28", "1973-05-19", "1949-09-09"} {
		day, err := time.Parse(time.DateOnly, d)
		if err != nil {
			panic(err)
		}
		// A whole date value: its length, then days since 2000.
		b := []byte{0, 0, 0, 4}
		out = append(out, bytes.ToLower(binary.BigEndian.AppendUint32(b, uint32(int32(day.Sub(epoch).Hours()/24)))))
	}
	return out
}()

// sessionID is what refusals name, and may look like anything.
var sessionID = regexp.MustCompile(`"session":"[^"]*"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// Planted returns the first planted value in what a client was sent, with what
// stands around it; "" when there is none. Values that the client's own text
// holds do not count.
func Planted(b []byte, own ...string) string {
	said := strings.ToLower(strings.Join(own, "\n"))
	b = sessionID.ReplaceAll(b, nil)
	low := bytes.ToLower(b)
	for _, c := range planted {
		if said != "" && strings.Contains(said, string(c)) {
			continue
		}
		if i := bytes.Index(low, c); i >= 0 && len(low) == len(b) {
			return fmt.Sprintf("%q in ...%q", c, b[max(0, i-40):min(len(b), i+60)])
		} else if i >= 0 {
			return fmt.Sprintf("%q", c)
		}
	}
	return ""
}
