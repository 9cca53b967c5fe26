// Package students is KisFlow's example on KisGrid: one flow averages two scores of each student and saves the average; a second
// flow loads the average and adds a third score.
//
// The files, in reading order:
//
//   - students.go: the functions of both flows.
//   - conf.go: the documents of both flows.
package students

import (
	"context"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Student is the part of a row that VerifyStu reads.
type Student struct {
	ID int `json:"stu_id"`
}

// Scores12 is an input row of the flow CalStuAvgScore12: the first two scores of a student.
type Scores12 struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

// Scores3 is an input row of the flow CalStuAvgScore3: the third score of a student. LoadScoreAvg12 fills in Avg12, the average
// of the first two.
type Scores3 struct {
	ID     int     `json:"stu_id"`
	Score3 int     `json:"score_3"`
	Avg12  float64 `json:"avg_score_1_2,omitempty"`
}

// Avg is a row with the average of a student's scores. Both flows pass it on as output, and the first flow saves it.
type Avg struct {
	ID  int     `json:"stu_id"`
	Avg float64 `json:"avg_score"`
}

// Register registers the functions that the documents of both flows name.
func Register(r *kis.Registry) {
	r.Func("VerifyStu", kis.Verify(VerifyStu))
	r.Func("AvgStuScore12", kis.Calculate(AvgStuScore12))
	r.Func("SaveScoreAvg12", kis.Save(SaveScoreAvg12))
	r.Func("LoadScoreAvg12", kis.Load(key, LoadScoreAvg12))
	r.Func("AvgStuScore3", kis.Calculate(AvgStuScore3))
	r.Func("PrintStuAvgScore", kis.Expand(PrintStuAvgScore))
}

// VerifyStu drops each row whose student's id is outside 0 to 999.
func VerifyStu(_ context.Context, s Student) error {
	if s.ID < 0 || s.ID > 999 {
		return kis.Drop("stu_id %d is outside 0..999", s.ID)
	}
	return nil
}

// AvgStuScore12 returns the average of the two scores in a row.
func AvgStuScore12(_ context.Context, s Scores12) (Avg, error) {
	return Avg{s.ID, float64(s.Score1+s.Score2) / 2}, nil
}

// SaveScoreAvg12 saves the average in a row under the student's id.
func SaveScoreAvg12(_ context.Context, to kis.Writer, a Avg) error {
	to.Set(strconv.Itoa(a.ID), "avg_score", a.Avg)
	return nil
}

func key(s Scores3) string { return strconv.Itoa(s.ID) }

// LoadScoreAvg12 returns the row with the average that SaveScoreAvg12 saved for the student. A row waits until the average is
// saved.
func LoadScoreAvg12(_ context.Context, s Scores3, saved *Avg) (Scores3, error) {
	s.Avg12 = saved.Avg
	return s, nil
}

// AvgStuScore3 returns the average of all three scores, made of the third score in the row and the average of the first two.
func AvgStuScore3(_ context.Context, s Scores3) (Avg, error) {
	return Avg{s.ID, (float64(s.Score3) + 2*s.Avg12) / 3}, nil
}

// PrintStuAvgScore passes the average on as it is. It is the last function of both flows, so its rows are the flow's output.
func PrintStuAvgScore(_ context.Context, a Avg, emit func(Avg)) error {
	emit(a)
	return nil
}
