package batch

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	kisgridv1 "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestNamesOfTheWire: codes and outcomes have the numbers and names of the wire, all of them and no others.
func TestNamesOfTheWire(t *testing.T) {
	for number, name := range kisgridv1.Code_name {
		if want := strings.TrimPrefix(name, "CODE_"); number != 0 && Code(number).String() != want {
			t.Errorf("code %d is %s, on the wire %s", number, Code(number), want)
		}
	}
	if got, want := len(codeNames), len(kisgridv1.Code_name)-1; got != want {
		t.Errorf("%d codes, on the wire %d", got, want)
	}
	seen := make(map[string]Code)
	for code, name := range codeNames {
		if other, again := seen[name]; again {
			t.Errorf("codes %d and %d are both called %s", code, other, name)
		}
		seen[name] = code
	}

	for number, name := range kisgridv1.Outcome_name {
		want := strings.ToLower(strings.TrimPrefix(name, "OUTCOME_"))
		if number == 0 {
			want = "unknown"
		}
		if got := Outcome(number).String(); got != want {
			t.Errorf("outcome %d is %s, on the wire %s", number, got, want)
		}
	}
	if got, want := int(Failed), len(kisgridv1.Outcome_name)-1; got != want {
		t.Errorf("%d outcomes, on the wire %d", got, want)
	}
}

func TestNamesOfTheUnknown(t *testing.T) {
	if got := Code(999).String(); got != "999" {
		t.Errorf("an unknown code is %q", got)
	}
	if got := Outcome(200).String(); got != "unknown" {
		t.Errorf("an unknown outcome is %q", got)
	}
}

func TestError(t *testing.T) {
	err := Errorf(CodeSaveFailed, "saving %s: %w", "stu_1", io.ErrUnexpectedEOF)
	if got, want := err.Error(), "SAVE_FAILED: saving stu_1: unexpected EOF"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	for _, tt := range []struct {
		err  error
		want Code
	}{
		{nil, 0},
		{io.EOF, CodeInternal},
		{err, CodeSaveFailed},
		{fmt.Errorf("running: %w", err), CodeSaveFailed},
		{errors.Join(io.EOF, err), CodeSaveFailed},
		{Errorf(CodeDeadline, "plain"), CodeDeadline},
	} {
		if got := CodeOf(tt.err); got != tt.want {
			t.Errorf("CodeOf(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
	if (&Error{Code: CodeOverloaded, RetryAfter: time.Second}).Unwrap() != nil {
		t.Error("an error without a cause has one")
	}
}

func TestRetryable(t *testing.T) {
	retryable := map[Code]bool{
		CodeNoCapableWorker: true, CodeShutdown: true, CodeOverloaded: true, CodeUnavailable: true, CodeConnectorUnavailable: true,
		CodeRevisionChanged: true,
	}
	for code := range codeNames {
		if code.Retryable() != retryable[code] {
			t.Errorf("%v.Retryable() = %v", code, code.Retryable())
		}
	}
}

func TestCounts(t *testing.T) {
	r := Result{Rows: 10, NotDone: []RowOutcome{{Row: 1, Outcome: Filtered}, {Row: 2, Outcome: Dead}, {Row: 5, Outcome: Dead}, {Row: 6, Outcome: Failed}, {Row: 7, Outcome: Aborted}}}
	counts := r.Counts()
	if want := (Counts{Done: 5, Filtered: 1, Aborted: 1, Dead: 2, Failed: 1}); counts != want {
		t.Errorf("got %v, want %v", counts, want)
	}
	if counts.Total() != 10 {
		t.Errorf("total %d, want 10", counts.Total())
	}
}

func TestResultSort(t *testing.T) {
	for _, tt := range []struct {
		name    string
		rows    []string
		origins []uint32
		keys    []uint64
		want    string
	}{
		{"nothing", nil, nil, nil, ""},
		{"in order", []string{"a", "b", "c"}, []uint32{0, 0, 2}, nil, "0a 0b 2c"},
		{"several answers", []string{"d", "a", "e", "b", "c"}, []uint32{3, 0, 3, 0, 1}, []uint64{3, 0, 3, 0, 1}, "0a 0b 1c 3d 3e"},
		{"the whole batch last", []string{"z", "a", "y"}, []uint32{WholeBatch, 7, WholeBatch}, nil, "7a 4294967295z 4294967295y"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Result{
				NotDone: []RowOutcome{{Row: 9}, {Row: 2}, {Row: 4000000000}, {Row: 3}},
				Output:  Output{Rows: pack(tt.rows...), Origins: tt.origins},
			}
			r.Output.Rows.Keys = tt.keys
			r.Sort()
			if diff := cmp.Diff([]RowOutcome{{Row: 2}, {Row: 3}, {Row: 9}, {Row: 4000000000}}, r.NotDone); diff != "" {
				t.Error(diff)
			}
			var got []string
			for i, origin := range r.Output.Origins {
				got = append(got, fmt.Sprintf("%d%s", origin, r.Output.Rows.Row(i)))
				if tt.keys != nil && r.Output.Rows.Keys[i] != uint64(origin) {
					t.Errorf("row %d has the key of row %d", origin, r.Output.Rows.Keys[i])
				}
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
