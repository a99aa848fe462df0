package notify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// OnCall says who is on call now: a rota, or a file that something else writes.
type OnCall struct {
	Rota *Rota `yaml:"rota"`
	// File holds names, one a line, # before a remark. It is read each time.
	File string `yaml:"file"`
}

// Rota is people who take turns of the same length, for ever.
type Rota struct {
	From   time.Time     `yaml:"from"`   // the first turn of the first of People
	Turn   time.Duration `yaml:"turn"`   // default 168h
	People []string      `yaml:"people"` // in their order
}

func (c *check) onCall(s *Settings) {
	for name, o := range s.OnCall {
		at := []any{"on_call", name}
		if (o.Rota == nil) == (o.File == "") {
			c.Bad(fmt.Sprintf("on_call %q: give rota or file", name), at...)
			continue
		}
		c.Resolve(&o.File) // it need not be there yet
		if r := o.Rota; r != nil {
			if r.Turn == 0 {
				r.Turn = 7 * 24 * time.Hour
			}
			if r.Turn < time.Minute {
				c.Bad("turn: must be a minute or more", "on_call", name, "rota", "turn")
			}
			if r.From.IsZero() {
				c.Bad("from: required, like 2026-11-02T09:00:00Z", "on_call", name, "rota", "from")
			}
			if len(r.People) == 0 {
				c.Bad("people: name at least one", "on_call", name, "rota", "people")
			}
			for i, p := range r.People {
				if _, ok := s.People[p]; !ok {
					c.Bad(fmt.Sprintf("%q: people has none of that name", p), "on_call", name, "rota", "people", i)
				}
			}
		}
		s.OnCall[name] = o
	}
}

// at returns whose turn it is.
func (r *Rota) at(now time.Time) string {
	n := now.Sub(r.From) / r.Turn
	if now.Before(r.From) && now.Sub(r.From)%r.Turn != 0 {
		n--
	}
	k := int(n % time.Duration(len(r.People)))
	if k < 0 {
		k += len(r.People)
	}
	return r.People[k]
}

// mostOnCall bounds the file, and who is on call by it.
const (
	mostOnCallBytes = 64 << 10
	mostOnCall      = 20
)

func (o *OnCall) now(now time.Time) ([]string, error) {
	if o.Rota != nil {
		return []string{o.Rota.at(now)}, nil
	}
	f, err := os.Open(o.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(io.LimitReader(f, mostOnCallBytes))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !validPerson.MatchString(line) || len(out) == mostOnCall {
			return out, fmt.Errorf("%s: must hold at most %d names, one a line", o.File, mostOnCall)
		}
		out = append(out, line)
	}
	if err := lines.Err(); err != nil {
		return out, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: nobody is on call", o.File)
	}
	return out, nil
}

// who returns those whom a step mentions now. With an error they are those who could
// be told: a list that can't be read keeps no message back.
func (s *Settings) who(p *Step, now time.Time) (out []Named, err error) {
	names := slices.Clone(p.People)
	for _, name := range p.OnCall {
		o := s.OnCall[name]
		more, e := o.now(now)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("on_call %s: %w", name, e))
		}
		names = append(names, more...)
	}
	seen := map[string]bool{}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, Named{n, s.People[n]})
		}
	}
	return out, err
}
