package mask

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/policy"
)

const (
	defaultConstant = "[redacted]"
	hidden          = "***" // what is shown of a value that has not the form

	// separators are the characters that partial shows between the ends. Every
	// other character is hidden: a list of what to hide would depend on what
	// the server's locale takes for a letter.
	separators = " ./()+,:;@_#-"
)

// textForm is a mask of text: an expression over a text x, in collation "C",
// and a function. What does not match valid is hidden.
type textForm struct {
	valid *regexp.Regexp // nil is all
	sql   func(x string) string
	text  func(s string) string // "" is hidden
}

// Read alike by both languages: characters are named, not classes of them.
var (
	emailForm = regexp.MustCompile(`^[^@ ]+@[^@ ]+[.][A-Za-z]{2,24}$`)
	phoneForm = regexp.MustCompile(`^[-0-9 ./()+]+$`)
	ssnForm   = regexp.MustCompile(`^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$`)
	panForm   = regexp.MustCompile(`^[0-9]([- ]?[0-9]){7,14}[- ]?[0-9]{4}$`)
	zipForm   = regexp.MustCompile(`^[0-9]{5}(-?[0-9]{4})?$`)
)

// ofText makes forms of a mask of text.
func ofText(of func(policy.Mask) textForm) func(policy.Mask, Type) *form {
	return func(m policy.Mask, t Type) *form {
		if !t.isText() {
			return nil
		}
		f := of(m)
		return &form{
			collated: true,
			sql: func(q string) string {
				// A collation that is not deterministic knows no patterns.
				x := `(` + q + `::pg_catalog.text COLLATE pg_catalog."C")`
				when := ""
				if f.valid != nil {
					when = " WHEN NOT " + op(x, "~", literal(f.valid.String())) + " THEN " + literal(hidden)
				}
				return "CASE WHEN " + q + " IS NULL THEN NULL" + when + " ELSE " + f.sql(x) + " END"
			},
			text: func(s string) (string, bool) {
				if t.Name == "bpchar" {
					s = strings.TrimRight(s, " ") // padding
				}
				out := ""
				if f.valid == nil || f.valid.MatchString(s) {
					out = f.text(s)
				}
				if out == "" {
					out = hidden
				}
				return t.fit(out), false
			},
		}
	}
}

// partial: each part is total, whatever the length, since nothing promises in
// which order they are computed.
func partial(m policy.Mask) textForm {
	first, last, both := strconv.Itoa(m.First), strconv.Itoa(m.Last), strconv.Itoa(m.First+m.Last)
	secret := literal("[^" + separators + "]")
	return textForm{
		sql: func(x string) string {
			middle := "pg_catalog.substr(" + x + ", " + strconv.Itoa(m.First+1) + ")"
			if m.Last > 0 {
				middle = "pg_catalog.left(" + middle + ", -" + last + ")"
			}
			return "CASE WHEN " + op("pg_catalog.length("+x+")", ">", both) + " AND " + op(middle, "~", secret) +
				" THEN pg_catalog.concat(pg_catalog.left(" + x + ", " + first + "), pg_catalog.regexp_replace(" + middle + ", " + secret + ", '*', 'g'), pg_catalog.right(" + x + ", " + last + "))" +
				" ELSE " + literal(hidden) + " END"
		},
		text: func(s string) string {
			chars := []rune(s)
			if len(chars) <= m.First+m.Last {
				return ""
			}
			some := false
			for i, c := range chars[m.First : len(chars)-m.Last] {
				if !strings.ContainsRune(separators, c) {
					chars[m.First+i] = '*'
					some = true
				}
			}
			if !some {
				return ""
			}
			return string(chars)
		},
	}
}

// email shows one character of the mailbox, unless it is all of it, and the
// top-level domain.
func email(policy.Mask) textForm {
	return textForm{
		valid: emailForm,
		sql: func(x string) string {
			return "pg_catalog.concat(pg_catalog.substring(" + x + ", '^[^@ ](?=[^@ ])'), '***@***', pg_catalog.substring(" + x + ", '[.][A-Za-z]{2,24}$'))"
		},
		text: func(s string) string {
			first := ""
			if box := []rune(s[:strings.IndexByte(s, '@')]); len(box) > 1 {
				first = string(box[:1])
			}
			return first + "***@***" + s[strings.LastIndexByte(s, '.'):]
		},
	}
}

// phone shows the last four digits, and what stands between digits.
func phone(policy.Mask) textForm {
	return textForm{
		valid: phoneForm,
		sql: func(x string) string {
			digits := "pg_catalog.length(pg_catalog.regexp_replace(" + x + ", '[^0-9]', '', 'g'))"
			tail := "pg_catalog.substring(" + x + ", '(?:[0-9][^0-9]*){4}$')"
			head := "pg_catalog.left(" + x + ", " + op("pg_catalog.length("+x+")", "-", "pg_catalog.length("+tail+")") + ")"
			return "CASE WHEN " + op(digits, "<", "7") + " OR " + op(digits, ">", "15") + " THEN " + literal(hidden) +
				" ELSE pg_catalog.concat(pg_catalog.regexp_replace(" + head + ", '[0-9]', '*', 'g'), " + tail + ") END"
		},
		text: func(s string) string {
			b, digits := []byte(s), 0
			for i := len(b) - 1; i >= 0; i-- {
				if '0' <= b[i] && b[i] <= '9' {
					if digits++; digits > 4 {
						b[i] = '*'
					}
				}
			}
			if digits < 7 || digits > 15 {
				return ""
			}
			return string(b)
		},
	}
}

func ssn(policy.Mask) textForm { return lastFour(ssnForm) }

func pan(policy.Mask) textForm { return lastFour(panForm) }

// lastFour shows the last four digits of numbers that end in four digits, and
// what stands between digits.
func lastFour(valid *regexp.Regexp) textForm {
	return textForm{
		valid: valid,
		sql: func(x string) string {
			return "pg_catalog.concat(pg_catalog.regexp_replace(pg_catalog.left(" + x + ", -4), '[0-9]', '*', 'g'), pg_catalog.right(" + x + ", 4))"
		},
		text: func(s string) string {
			end := len(s) - 4
			return strings.Map(func(c rune) rune {
				if '0' <= c && c <= '9' {
					return '*'
				}
				return c
			}, s[:end]) + s[end:]
		},
	}
}

func zip3(policy.Mask) textForm {
	return textForm{
		valid: zipForm,
		sql: func(x string) string {
			three := "pg_catalog.left(" + x + ", 3)"
			return "pg_catalog.concat(CASE WHEN " + op(three, "=", "ANY (ARRAY['"+strings.Join(sparse, "','")+"'])") + " THEN '000' ELSE " + three + " END, '**')"
		},
		text: func(s string) string {
			if slices.Contains(sparse, s[:3]) {
				return "000**"
			}
			return s[:3] + "**"
		},
	}
}
