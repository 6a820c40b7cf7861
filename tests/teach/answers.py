"""What the tests of the exercise checks share: a check's verdict in short, a student's function by another name."""


def verdict(check, *arguments):
    answer = check(*arguments)
    return answer.passed, answer.message


def named(function, name):
    function.__name__ = name
    return function
