package mask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport.dev/sallyport/policy"
)

// Names of the masks, as policies write them.
const (
	Redact  = "redact"
	Null    = "null"
	Partial = "partial"
	Year    = "year"
)

// Names lists the masks.
var Names = []string{Redact, Null, Partial, Year, Hash, Token, Format, Fake}

const (
	defaultConstant = "[redacted]"
	hidden          = "***" // what partial shows of a value that is too short

	maxKept     = 64  // characters that partial keeps at an end
	maxConstant = 256 // bytes

	// separators are the characters that partial shows between the ends. Every
	// other character is hidden: a list of what to hide would depend on what
	// the server's locale takes for a letter.
	separators = " ./()+,:;@_#-"
)

// Check reports why m is not a mask, or takes no such parameter.
func Check(m policy.Mask) error {
	if m.Kind != Partial && (m.First != 0 || m.Last != 0) {
		return fmt.Errorf("mask %s takes no first or last: only partial does", m.Kind)
	}
	if m.Kind != Redact && m.Constant != "" {
		return fmt.Errorf("mask %s takes no constant: only redact does", m.Kind)
	}
	if m.Kind != Fake && m.Of != "" {
		return fmt.Errorf("mask %s takes no of: only fake does", m.Kind)
	}
	switch m.Kind {
	case Null, Year, Hash, Token, Format:
	case Fake:
		if !slices.Contains(Fakes, m.Of) {
			return fmt.Errorf("of says what is faked: use one of %s", strings.Join(Fakes, ", "))
		}
	case Redact:
		return checkConstant(m.Constant)
	case Partial:
		if m.First < 0 || m.Last < 0 || m.First > maxKept || m.Last > maxKept {
			return fmt.Errorf("first and last are numbers of characters to keep, from 0 to %d", maxKept)
		}
	default:
		return fmt.Errorf("mask %q is not known: use one of %s", m.Kind, strings.Join(Names, ", "))
	}
	return nil
}

func checkConstant(s string) error {
	switch {
	case len(s) > maxConstant:
		return fmt.Errorf("the constant is longer than %d bytes", maxConstant)
	case strings.ContainsRune(s, '\\'):
		return errors.New("the constant may not hold a backslash")
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the constant may hold no control characters, and must be UTF-8")
	}
	return nil
}

func constant(m policy.Mask) string {
	if m.Constant == "" {
		return defaultConstant
	}
	return m.Constant
}

// isText reports the types that redact and partial know.
func isText(typ string) bool { return typ == "text" || typ == "varchar" || typ == "bpchar" }
