// Package visible tells which characters of a text that somebody chose can be shown as
// they are.
package visible

import "unicode"

// Rune reports that a character is seen where it stands, and acts on nothing around it.
// Others are control characters and direction marks, and those that Unicode takes for
// letters, marks or symbols and that show nothing: fillers, selectors of variants, and
// the Braille pattern without dots.
func Rune(r rune) bool {
	return unicode.IsPrint(r) && r != '\u2800' && (r < 0x34f || !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unassigned))
}

// unassigned are the marks that are to be ignored and stand in neither table: the Khmer
// vowels that are inherent.
var unassigned = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x17b4, Hi: 0x17b5, Stride: 1}}}
