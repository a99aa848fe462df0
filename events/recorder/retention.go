package recorder

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
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
	Keep      Age    `yaml:"keep"`
}

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

func (a Age) String() string {
	if a == forever {
		return "forever"
	}
	return strconv.FormatInt(int64(time.Duration(a)/day), 10) + "d"
}

// Check refuses rules that say nothing.
func (r *Retention) Check() error {
	if r.Keep < 0 {
		return errors.New("retention: keep can't be negative")
	}
	names := map[string]bool{"default": true}
	for i := range r.Rules {
		x := &r.Rules[i]
		switch {
		case x.Name == "" || names[x.Name]:
			return fmt.Errorf("retention: rule %d needs a name of its own (default is taken)", i+1)
		case x.Keep <= 0:
			return fmt.Errorf("retention: rule %q: say how long: keep", x.Name)
		case x.Verdict != "" && verdictBit(x.Verdict) == 0:
			return fmt.Errorf("retention: rule %q: there is no verdict %q", x.Name, x.Verdict)
		case *x == Rule{Name: x.Name, Keep: x.Keep}:
			return fmt.Errorf("retention: rule %q is for all: say so as retention.keep", x.Name)
		}
		names[x.Name] = true
	}
	return nil
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
