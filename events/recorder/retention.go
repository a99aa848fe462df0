package recorder

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Retention says how long transcripts are kept. The records, which say who did what
// when and how it was decided, stay.
type Retention struct {
	Keep  Age    `yaml:"keep"` // of what no rule is for; default 6y
	Rules []Rule `yaml:"rules"`
}

// Rule is how long some transcripts are kept. Parts that are given must all be so; of
// several rules the first decides.
type Rule struct {
	Name      string `yaml:"name"`
	Host      string `yaml:"host"`
	Resource  string `yaml:"resource"`
	Protocol  string `yaml:"protocol"` // postgres, tcp and so on
	Identity  string `yaml:"identity"` // workload, actor or principal
	Workload  string `yaml:"workload"`
	Actor     string `yaml:"actor"`
	Principal string `yaml:"principal"`
	Verdict   string `yaml:"verdict"` // sessions with a request so decided: block, mask and so on
	// Recording is what the transcript of a session holds, as policy has it: full, or
	// statement for one that has no rows of any result.
	Recording string `yaml:"recording"`
	Keep      Age    `yaml:"keep"`
}

// What transcripts hold, as rules name it.
const (
	recordingFull      = "full"
	recordingStatement = "statement"
)

// Age is a time in whole days. A year has 366 of them.
type Age time.Duration

const (
	day = 24 * time.Hour
	// DefaultKeep is six years (45 CFR 164.316(b)(2)(i)).
	DefaultKeep = Age(6 * 366 * day)
	forever     = Age(math.MaxInt64)
)

// UnmarshalText reads 30d, 12w, 6y or forever.
func (a *Age) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "forever" {
		*a = forever
		return nil
	}
	bad := fmt.Errorf("%q: want days, weeks or years, such as 30d, 12w, 6y, or forever", s)
	if len(s) < 2 {
		return bad
	}
	unit := map[byte]time.Duration{'d': day, 'w': 7 * day, 'y': 366 * day}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
	if unit == 0 || err != nil || n == 0 || n > 200*366 || time.Duration(n) > math.MaxInt64/unit {
		return bad
	}
	*a = Age(time.Duration(n) * unit)
	return nil
}

// UnmarshalYAML reads it from a file, with the line of what is wrong.
func (a *Age) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: want days, weeks or years, such as 30d, 12w, 6y, or forever", n.Line)
	}
	if err := a.UnmarshalText([]byte(n.Value)); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

func (a Age) String() string {
	if a == forever {
		return "forever"
	}
	return strconv.FormatInt(int64(time.Duration(a)/day), 10) + "d"
}

// Check refuses rules that say nothing.
func (r *Retention) Check() error {
	var errs []error
	r.Mistakes(func(why string, _ ...any) { errs = append(errs, errors.New("retention: "+why)) })
	return errors.Join(errs...)
}

// Mistakes calls bad for each thing that is wrong, with where that is: names of members,
// and numbers of elements from 0.
func (r *Retention) Mistakes(bad func(why string, at ...any)) {
	if r.Keep < 0 {
		bad("keep can't be negative", "keep")
	}
	names := map[string]bool{"default": true}
	for i := range r.Rules {
		x := &r.Rules[i]
		at := func(why, member string) { bad(fmt.Sprintf("rule %q: %s", x.Name, why), "rules", i, member) }
		switch {
		case x.Name == "" || names[x.Name]:
			bad(fmt.Sprintf("rule %d needs a name of its own (default is taken)", i+1), "rules", i, "name")
		case x.Keep <= 0:
			at("say how long: keep", "keep")
		case x.Verdict != "" && verdictBit(x.Verdict) == 0:
			at(fmt.Sprintf("there is no verdict %q", x.Verdict), "verdict")
		case x.Recording == "events":
			at("where events alone are recorded there is no transcript, and events stay", "recording")
		case x.Recording != "" && x.Recording != recordingFull && x.Recording != recordingStatement:
			at(fmt.Sprintf("recording %q: must be full or statement", x.Recording), "recording")
		case *x == Rule{Name: x.Name, Keep: x.Keep}:
			at("it is for all: say so as retention.keep", "name")
		}
		names[x.Name] = true
	}
}

// byRecording reports whether a rule asks what transcripts hold.
func (r *Retention) byRecording() bool {
	return slices.ContainsFunc(r.Rules, func(x Rule) bool { return x.Recording != "" })
}

func (r *Retention) keep() Age {
	if r.Keep == 0 {
		return DefaultKeep
	}
	return r.Keep
}

// least is the shortest time.
func (r *Retention) least() Age {
	n := r.keep()
	for i := range r.Rules {
		n = min(n, r.Rules[i].Keep)
	}
	return n
}
