package postgres_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

// A statement may have 65535 parameters: their counts have no sign.
func TestParametersBeyondAnInt16(t *testing.T) {
	var params []string
	var args []any
	for i := range math.MaxUint16 {
		params, args = append(params, "$"+strconv.Itoa(i+1)+"::text"), append(args, strconv.Itoa(i))
	}
	p := start(t, allowAll)
	var n int
	sql := "SELECT cardinality(ARRAY[" + strings.Join(params, ", ") + "])"
	if err := connect(t, p, "").QueryRow(t.Context(), sql, args...).Scan(&n); err != nil || n != math.MaxUint16 {
		t.Errorf("%d, %v", n, err)
	}
	p = start(t, maskPolicy)
	sql = "SELECT cardinality(ARRAY[" + strings.Join(params[:40_000], ", ") + "])"
	c := connect(t, p, "")
	if err := c.QueryRow(t.Context(), sql, args[:40_000]...).Scan(&n); err == nil && n != 40_000 || err != nil && !strings.Contains(err.Error(), "refused") {
		t.Errorf("%d, %v", n, err) // it may be larger than what is analysed
	}
	if err := c.QueryRow(t.Context(), "SELECT 1").Scan(&n); err != nil {
		t.Error(err)
	}
}
