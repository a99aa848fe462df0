package visible_test

import (
	"testing"
	"unicode"

	"sallyport.dev/sallyport/internal/visible"
)

func TestRune(t *testing.T) {
	for _, r := range "aZ0 ~é\u00ffдßж中文ا\u0301😀≠" {
		if !visible.Rune(r) {
			t.Errorf("%U is not shown", r)
		}
	}
	// All that Unicode says is to be ignored where nothing draws it (Default_Ignorable_
	// Code_Point), and what is drawn as nothing.
	for _, r := range []rune{
		0, 0x1b, '\n', 0x7f, 0x9b, 0xa0, 0xad, 0x34f, 0x61c, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x180b, 0x180e, 0x180f, 0x200b, 0x200d, 0x202e, 0x2028, 0x2029,
		0x2060, 0x2065, 0x2066, 0x2800, 0x3000, 0x3164, 0xfe00, 0xfe0f, 0xfeff, 0xffa0, 0xfff9, 0x1bca0, 0x1d173, 0xe0001, 0xe0041, 0xe0100, 0xe01ef, 0x10ffff, unicode.MaxRune + 1, -1,
	} {
		if visible.Rune(r) {
			t.Errorf("%U is taken for something that is seen", r)
		}
	}
}
