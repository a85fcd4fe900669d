/* The wall clock of a process, AHEAD seconds ahead; the monotonic clock is left alone. For LD_PRELOAD.

   Declares what it calls by itself: it is built without any header. */

typedef struct { long seconds, rest; } moment;  /* struct timespec and struct timeval alike */

void *dlsym(void *, const char *);
void *dlvsym(void *, const char *, const char *);

#define NEXT ((void *)-1)
#define REALTIME 0
#define REALTIME_COARSE 5
#ifdef __x86_64__
#define CONDITIONS "GLIBC_2.3.2"  /* an older one has the same name there */
#else
#define CONDITIONS "GLIBC_2.17"
#endif

int clock_gettime(int clock, moment *at) {
  static int (*real)(int, moment *);
  if (!real) real = dlsym(NEXT, "clock_gettime");
  int failed = real(clock, at);
  if (!failed && (clock == REALTIME || clock == REALTIME_COARSE)) at->seconds += AHEAD;
  return failed;
}

int gettimeofday(moment *at, void *zone) {
  static int (*real)(moment *, void *);
  if (!real) real = dlsym(NEXT, "gettimeofday");
  int failed = real(at, zone);
  if (!failed) at->seconds += AHEAD;
  return failed;
}

long time(long *at) {
  moment now;
  clock_gettime(REALTIME, &now);
  if (at) *at = now.seconds;
  return now.seconds;
}

/* The kernel waits by its own clock. A deadline of a billion seconds counts from 1970, not from the start
   of the machine: it was made from the moved clock. */
static moment put_back(const moment *until) {
  moment real = *until;
  if (real.seconds > 1000000000) real.seconds -= AHEAD;
  return real;
}

int pthread_cond_timedwait(void *condition, void *mutex, const moment *until) {
  static int (*real)(void *, void *, const moment *);
  if (!real) real = dlvsym(NEXT, "pthread_cond_timedwait", CONDITIONS);
  moment back = put_back(until);
  return real(condition, mutex, &back);
}

int sem_timedwait(void *semaphore, const moment *until) {
  static int (*real)(void *, const moment *);
  if (!real) real = dlsym(NEXT, "sem_timedwait");
  moment back = put_back(until);
  return real(semaphore, &back);
}

int pthread_mutex_timedlock(void *mutex, const moment *until) {
  static int (*real)(void *, const moment *);
  if (!real) real = dlsym(NEXT, "pthread_mutex_timedlock");
  moment back = put_back(until);
  return real(mutex, &back);
}
