package worker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The verb test of a worker's program runs test files through its Go functions, takes -run, and ends with 2 when nothing could run.
func TestTestVerb(t *testing.T) {
	dir := writeConf(t, grades())
	const cases = `tests:
  - name: points become a grade
    flow: Grades
    rows:
      - {student: 7, points: 71}
    output:
      - {student: 7, grade: passed}
    after:
      Store:
        passed: {student: 7}
  - name: wrong on purpose
    flow: Grades
    rows:
      - {student: 8, points: 7}
    output:
      - {student: 8, grade: passed}
`
	path := filepath.Join(dir, "grades_test.yml")
	if err := os.WriteFile(path, []byte(cases), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string // in the output, or in the errors
	}{
		{[]string{"test", dir, "-run", "points"}, 0, "1 case passed\n"},
		{[]string{"test", dir}, 1, `grade: is "failed", want "passed"`},
		{[]string{"test", dir, "-run", "nothing"}, 1, "so nothing was compared"},
		{[]string{"test", filepath.Join(dir, "none")}, 2, "NOT_FOUND: read the tests: "},
	} {
		code, out, errs := runMain(registerGrades, "", tt.args...)
		if said := out + errs; code != tt.code || !strings.Contains(said, tt.want) {
			t.Errorf("%q ended with %d, not %d, and said\n%s\nwithout %q", tt.args, code, tt.code, said, tt.want)
		}
	}
}
