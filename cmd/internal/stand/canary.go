package stand

import "regexp"

// canaries match the clinic's protected values and what is left of them in
// slices, in other cases and in the usual encodings.
var canaries = regexp.MustCompile(`(?i)canary|yranac` + // names and e-mail addresses, also reversed
	`|\b987-\d|\b98700|-00-789\b|\d00789\b` + // social security numbers
	`|555-01` + // telephone numbers
	`|(19[3-9]\d|200\d)-\d\d-(1[3-9]|2\d)\b` + // birth dates
	`|63616e617279|43616e617279|43414e415259|Y2FuYXJ5|Q2FuYXJ5|NhbmFye|jYW5hcn`) // canary in hex and base64

// Canary returns the first trace of a protected value of the clinic, or "".
func Canary(b []byte) string { return string(canaries.Find(b)) }
