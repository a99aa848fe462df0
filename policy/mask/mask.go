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
	Bucket  = "bucket"
	Zip3    = "zip3"
	Email   = "email"
	Phone   = "phone"
	SSN     = "ssn"
	PAN     = "pan"
	JSON    = "json"
)

// Names lists the masks.
var Names = []string{Redact, Null, Partial, Year, Bucket, Zip3, Email, Phone, SSN, PAN, JSON, Hash, Token, Format, Fake}

// kinds holds the table of masks: what each one shows of the values of a type,
// nil for NULL. A kind that is not here is no mask.
var kinds = map[string]func(policy.Mask, Type) *form{
	Redact:  redact,
	Null:    func(policy.Mask, Type) *form { return nil },
	Partial: ofText(partial),
	Year:    year,
	Bucket:  bucket,
	Zip3:    either(ofText(zip3), zip3Number),
	Email:   ofText(email),
	Phone:   either(ofText(phone), lastDigits(7, 15)),
	SSN:     either(ofText(ssn), lastDigits(1, 9)),
	PAN:     either(ofText(pan), lastDigits(12, 18)),
	JSON:    jsonKeep,

	// Without a key, and in SQL.
	Hash:   redactKeyed,
	Token:  redactKeyed,
	Format: redactKeyed,
	Fake:   redactKeyed,
}

// Units are what dates are put together by.
var Units = []string{"hour", "day", "month", "quarter"}

const (
	MaxKept     = 64  // characters that partial keeps at an end
	maxConstant = 256 // bytes
	maxWidth    = 1_000_000_000_000
	maxYear     = 9999
)

// Check reports why m is not a mask, or takes no such parameter.
func Check(m policy.Mask) error {
	if kinds[m.Kind] == nil {
		return fmt.Errorf("mask %q is not known: use one of %s", m.Kind, strings.Join(Names, ", "))
	}
	for _, p := range []struct {
		name  string
		given bool
		only  string
	}{
		{"first or last", m.First != 0 || m.Last != 0, Partial},
		{"constant", m.Constant != "", Redact},
		{"width", m.Width != 0, Bucket},
		{"unit", m.Unit != "", Bucket},
		{"earliest", m.Earliest != 0, Year},
		{"keep", m.Keep != "", JSON},
		{"of", m.Of != "", Fake},
	} {
		if p.given && m.Kind != p.only {
			return fmt.Errorf("mask %s takes no %s: only %s does", m.Kind, p.name, p.only)
		}
	}
	switch m.Kind {
	case Redact:
		return checkConstant(m.Constant)
	case Partial:
		if m.First < 0 || m.Last < 0 || m.First > MaxKept || m.Last > MaxKept {
			return fmt.Errorf("first and last are numbers of characters to keep, from 0 to %d", MaxKept)
		}
	case Bucket:
		return checkBucket(m)
	case Year:
		if m.Earliest < 0 || m.Earliest > maxYear {
			return fmt.Errorf("earliest is a year, from 1 to %d", maxYear)
		}
	case Fake:
		if !slices.Contains(Fakes, m.Of) {
			return fmt.Errorf("of says what is faked: use one of %s", strings.Join(Fakes, ", "))
		}
	case JSON:
		return checkKeep(m.Keep)
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

func checkBucket(m policy.Mask) error {
	switch {
	case (m.Width == 0) == (m.Unit == ""):
		return errors.New("bucket takes one of width, for numbers, and unit, for dates")
	case m.Unit != "" && !slices.Contains(Units, m.Unit):
		return fmt.Errorf("unit %q is not known: use one of %s", m.Unit, strings.Join(Units, ", "))
	case m.Unit == "" && (m.Width < 1 || m.Width > maxWidth):
		return fmt.Errorf("width is a whole number, from 1 to %d", maxWidth)
	}
	return nil
}

func redactKeyed(m policy.Mask, t Type) *form { return redact(unkeyed(m), t) }

// either takes the first of two forms that there is.
func either(a, b func(policy.Mask, Type) *form) func(policy.Mask, Type) *form {
	return func(m policy.Mask, t Type) *form {
		if f := a(m, t); f != nil {
			return f
		}
		return b(m, t)
	}
}
