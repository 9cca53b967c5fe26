package definition

import (
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	before := []Document{
		{Kind: KindFunc, Name: "A", YAML: []byte("a\nb\nc\nd\ne\nf\n"), Revision: 7},
		{Kind: KindFunc, Name: "Same", YAML: []byte("a\n"), Revision: 7},
		{Kind: KindFlow, Name: "Gone", YAML: []byte("a\n"), Revision: 3},
		{Kind: KindConn, Name: "End", YAML: []byte("a"), Revision: 2},
	}
	after := []Document{
		{Kind: KindConn, Name: "New", YAML: []byte("x\ny\n")},
		{Kind: KindConn, Name: "End", YAML: []byte("a\n"), Path: "end.yml"},
		{Kind: KindFunc, Name: "Same", YAML: []byte("a\n"), Path: "same.yml"},
		{Kind: KindFunc, Name: "A", YAML: []byte("a\nb\nc\nd\nE\nf\n"), Path: "conf/a.yml"},
	}
	want := `--- flow/Gone (revision 3)
+++ /dev/null
@@ -1 +0,0 @@
-a
--- func/A (revision 7)
+++ func/A (conf/a.yml)
@@ -2,5 +2,5 @@
 b
 c
 d
-e
+E
 f
--- conn/End (revision 2)
+++ conn/End (end.yml)
@@ -1 +1 @@
-a
\ No newline at end of file
+a
--- /dev/null
+++ conn/New
@@ -0,0 +1,2 @@
+x
+y
`
	var got strings.Builder
	for _, c := range Diff(before, after) {
		got.WriteString(c.String())
	}
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if same := Diff(after, after); len(same) != 0 {
		t.Errorf("documents differ from themselves: %v", same)
	}
}
